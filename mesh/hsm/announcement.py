"""Saying aloud, at start, that a token is for development, or that a KEK guards less than it could."""

from mesh import telemetry
from mesh.hsm.errors import DevelopmentTokenError, KekTemplateRefusedError
from mesh.hsm.token import Token
from mesh.hsm.wrapped import KekName


def announce(token: Token, *, production: bool) -> None:
    """Log a warning for a development token.

    Raises:
        DevelopmentTokenError: in production, where the law wants a certified device.
    """
    if not token.is_development_token:
        return
    if production:
        raise DevelopmentTokenError("a development token holds its keys in files; production refuses it")
    telemetry.logger().warning(
        "development token, its keys are in files and no certified device guards them", token_model=token.model
    )


def announce_kek(token: Token, kek: KekName, *, production: bool) -> None:
    """Log a warning for a KEK that does not force what it unwraps to be sensitive.

    Raises:
        KekTemplateRefusedError: in production, where whoever has the PIN shall not read a subject key's value.
        TokenKeyMissingError: the token does not hold the KEK.
    """
    if token.forces_sensitive(kek):
        return
    if production:
        raise KekTemplateRefusedError(f"{kek.token_label} has no CKA_UNWRAP_TEMPLATE with CKA_SENSITIVE")
    telemetry.logger().warning(
        "no unwrap template guards a key-encryption key, whoever has the pin could read subject keys",
        version=kek.token_label,
    )
