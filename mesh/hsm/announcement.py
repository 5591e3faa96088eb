"""Saying aloud, at start, that a token is for development."""

from mesh import telemetry
from mesh.hsm.errors import DevelopmentTokenError
from mesh.hsm.token import Token


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
