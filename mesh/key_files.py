"""Receipt keys and pins from files that may be replaced while the service runs.

A receipt key is rotated in this order, so that no request fails: pins that name the new key beside the old one, with
the old one's last second (`not_after`); when every consumer has read them, the key itself. A receipt that the old key
signed until then counts for as long as it lives; one that it signs later is refused (KEY_NOT_VALID_THEN).
"""

from collections.abc import Sequence
from pathlib import Path

from mesh import pins
from mesh.mounted import Mounted, UnusableFilesError
from mesh.pins import CurrentPins, Pins, PinsError, key_id
from mesh.receipts import ReceiptSigner
from mesh.settings import MeshSettings, secret_file
from mesh.transaction import Env


def pins_of(settings: MeshSettings, file: Path) -> Mounted[Pins]:
    """Return the pins of a file, as they are now. Raises PinsError for a file that cannot be used."""

    def parse(contents: Sequence[bytes]) -> Pins:
        try:
            return pins.parse(contents[0], Env(settings.env))
        except PinsError as error:
            raise UnusableFilesError("PINS_UNUSABLE", str(error)) from error

    return Mounted("pins", [file], parse, every_s=settings.reload_every_s)


def receipt_signer_of(settings: MeshSettings, file: Path, pinned: CurrentPins | None = None) -> Mounted[ReceiptSigner]:
    """Return the signer of a receipt key's file, as it is now. Raises ValueError for anything but an Ed25519 key.

    A service that knows the pins itself does not take up a key that they do not name: it waits until they do.
    """

    def parse(contents: Sequence[bytes]) -> ReceiptSigner:
        return ReceiptSigner.from_pem(contents[0], Env(settings.env))

    def succeeds(_earlier: ReceiptSigner, later: ReceiptSigner) -> None:
        kid = key_id(later.public_key)
        if pinned is not None and not any(pin.kid == kid for pin in pinned().pins):
            raise UnusableFilesError("KEY_NOT_PINNED", "the pins do not name the key")

    return Mounted(
        "receipt key", [file], parse, every_s=settings.reload_every_s, require=secret_file, succeeds=succeeds
    )
