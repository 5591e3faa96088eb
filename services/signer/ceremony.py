"""The signer's key ceremony: the key-encryption key in its token, made once, never extractable.

`python -m services.signer.ceremony`, settings in the environment (`settings.CeremonySettings`). It makes what is
missing and nothing else, so it may be repeated. In production two operators confirm its plan (`mesh.ceremony_tool`); in
a sandbox the PIN's holder makes it alone. To rotate, see `services.signer.keys`.
"""

import argparse
import secrets
import sys
import time
from collections.abc import Sequence

from mesh import ceremony_tool
from mesh.ceremony import CeremonyRefusedError
from mesh.ceremony_tool import Around, Occasion
from mesh.errors import FinIdError
from mesh.hsm import KekName, Token, announce, announce_kek, open_token
from services.signer.settings import CeremonySettings
from services.signer.subject_keys import KEK_LABEL


def around(settings: CeremonySettings) -> Around:
    """What the signer's tools have around them."""
    return Around(settings.env == "production", _say, lambda: int(time.time()), secrets.token_bytes)


def _say(line: str) -> None:
    print(line, flush=True)


def occasion_of(name: str, settings: CeremonySettings, token: Token, kek: KekName, *notes: str) -> Occasion:
    """What making a KEK is called in plans."""
    place = place_of(settings, token)
    return Occasion(
        name, place, (f"make {kek.token_label} (AES-256, never extractable, what it unwraps is sensitive)",), notes
    )


def place_of(settings: CeremonySettings, token: Token) -> str:
    """Name a token as plans do: another one with its label has another serial number."""
    return f"{settings.env}, token {settings.token_label} ({token.model}, serial {token.serial})"


def make_kek(settings: CeremonySettings, told: ceremony_tool.Given) -> None:
    """Make the key-encryption key unless the token holds it. Raises CeremonyRefusedError, `mesh.hsm.TokenError`."""
    token = open_token(settings.pkcs11_module, settings.token_label, settings.token_pin_file, writable=not told.dry_run)
    production = settings.env == "production"
    announce(token, production=production)
    kek = KekName(KEK_LABEL, settings.subject_kek_generation)
    if token.has_kek(kek):
        announce_kek(token, kek, production=production)
        _say(f"{kek.token_label}: kept")
        return
    occasion = occasion_of("services.signer.ceremony", settings, token, kek)
    if told.dry_run:
        ceremony_tool.write_plan(told, occasion, around(settings))
        return
    with ceremony_tool.sitting(told, occasion, around(settings)) as recorder:
        token.create_kek(kek)
        announce_kek(token, kek, production=production)
        recorder.say(f"{kek.token_label}: made (AES-256, never extractable)")


def main(words: Sequence[str] | None = None) -> None:
    """Run the ceremony."""
    parser = argparse.ArgumentParser(
        prog="python -m services.signer.ceremony",
        description="Make the key that wraps subject keys, unless the token holds it. Production: two operators"
        " confirm the plan. Sandbox: the PIN's holder may do it alone.",
    )
    ceremony_tool.add_arguments(parser)
    told = ceremony_tool.given(parser.parse_args(words))
    settings = CeremonySettings.load()
    try:
        make_kek(settings, told)
    except (CeremonyRefusedError, FinIdError, OSError) as error:
        sys.exit(f"the ceremony stopped: {error}")


if __name__ == "__main__":
    main()
