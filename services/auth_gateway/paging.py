"""Page tokens that cannot be forged: where a list goes on, sealed for the list that it was made for."""

from mesh import base64url
from mesh.errors import FieldViolation, InvalidArgumentError
from mesh.sealing import Seal, SealBrokenError

_COLUMN = "page-token"


class PageTokenInvalidError(InvalidArgumentError):
    """The page token was not given for this list: another method, application or filter."""

    reason = "PAGE_TOKEN_INVALID"

    def __init__(self) -> None:
        rule = FieldViolation("page_token", "must be the `next_page_token` of this list, with the same filter")
        super().__init__("The page token is not of this list.", violations=[rule])


class PageTokens:
    """Seals places (AES-256-GCM); what is sealed for one list does not open for another.

    `of` names a list: its method, the application and whatever it is filtered by.
    """

    def __init__(self, seal: Seal) -> None:
        self._seal = seal

    def write(self, place: str, *of: str) -> str:
        """Return the token of a place in a list; "" for "", which is the end."""
        return base64url.encode(self._seal.seal(place.encode(), column=_COLUMN, row=_listed(of))) if place else ""

    def read(self, token: str, *of: str) -> str:
        """Return the place that a token was made for; "" for "", which is the beginning.

        Raises PageTokenInvalidError.
        """
        if not token:
            return ""
        try:
            return self._seal.open(base64url.decode(token), column=_COLUMN, row=_listed(of)).decode()
        except (SealBrokenError, ValueError) as error:
            raise PageTokenInvalidError from error


def _listed(of: tuple[str, ...]) -> str:
    return "\0".join(of)
