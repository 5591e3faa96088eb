"""The signer's key ceremony: the key-encryption key in its token, made once, never extractable.

`python -m services.signer.ceremony`, settings in the environment (`settings.CeremonySettings`). It makes what is
missing and nothing else, so it may be repeated. To rotate, count FINID_SUBJECT_KEK_GENERATION up and run it again: new
keys are then wrapped by the new generation, older ones still open under theirs.
"""

import sys

from mesh.errors import FinIdError
from mesh.hsm import KekName, Token, announce, open_token
from services.signer.settings import CeremonySettings
from services.signer.subject_keys import KEK_LABEL


def make_kek(token: Token, kek: KekName) -> str:
    """Make the key-encryption key unless the token holds it; say what was done. Raises `mesh.hsm.TokenError`."""
    if token.has_kek(kek):
        return f"{kek.token_label}: kept"
    token.create_kek(kek)
    return f"{kek.token_label}: made (AES-256, never extractable)"


def main() -> None:
    """Run the ceremony."""
    settings = CeremonySettings.load()
    try:
        token = open_token(settings.pkcs11_module, settings.token_label, settings.token_pin_file, writable=True)
        announce(token, production=settings.env == "production")
        print(make_kek(token, KekName(KEK_LABEL, settings.subject_kek_generation)), flush=True)
    except FinIdError as error:
        sys.exit(f"the ceremony stopped: {error}")


if __name__ == "__main__":
    main()
