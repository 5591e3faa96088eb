"""What a participant keeps while the person is on the hosted page: PKCE (RFC 7636) and the state of the redirect."""

import base64
import hashlib
import hmac
import json
import secrets
from dataclasses import asdict, dataclass, field
from typing import Generic, TypeVar
from urllib.parse import parse_qs, urlsplit

from finid_client.errors import ReturnRefusedError

T = TypeVar("T")
_VERIFIER_BYTES = 48
_STATE_BYTES = 24


@dataclass(frozen=True, slots=True)
class Pending:
    """Keep it on the server, with the person's session: nobody else can read the result, and without it nobody can.

    `authentication` is authentications/{id}; `operation` what it is for (a certificate order, a change, a signature),
    '' for an identification.
    """

    authentication: str
    operation: str = ""
    state: str = field(default="", repr=False)
    code_verifier: str = field(default="", repr=False)

    def dump(self) -> str:
        """Return it as JSON, for a session store. It holds the verifier: never send it to a browser, never log it."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> "Pending":
        """Return what `dump` wrote. Raises ReturnRefusedError for anything else."""
        try:
            found = json.loads(text)
            if set(found) == set(cls.__slots__) and all(isinstance(value, str) for value in found.values()):
                return cls(**found)
        except (TypeError, ValueError):
            pass
        raise ReturnRefusedError("this is not a pending authentication")

    def result_code(self, returned_to: str) -> str:
        """Return the one-time code from the address (or its query alone) to which the person came back.

        Raises ReturnRefusedError when `state` is another authentication's: somebody else's link, or a forged return.
        """
        query = parse_qs(urlsplit(returned_to).query if "?" in returned_to else returned_to)
        states, codes = query.get("state", []), query.get("code", [])
        if len(states) != 1 or not hmac.compare_digest(states[0].encode(), self.state.encode()):
            raise ReturnRefusedError("the person came back with another state")
        if len(codes) != 1:
            raise ReturnRefusedError("the person came back without a code")
        return codes[0]


@dataclass(frozen=True, slots=True)
class Begun(Generic[T]):
    """What a create call for the hosted page answered, and what to keep until the person is back."""

    operation: T
    pending: Pending
    capture_uri: str = field(repr=False)
    """Where to send the person, in their own browser, at once: it works one time. Never log it."""


def new_verifier() -> str:
    """Return a PKCE verifier of 384 random bits."""
    return secrets.token_urlsafe(_VERIFIER_BYTES)


def new_state() -> str:
    """Return 192 random bits for the redirect."""
    return secrets.token_urlsafe(_STATE_BYTES)


def challenge_of(code_verifier: str) -> str:
    """Return the S256 challenge of a verifier."""
    return base64.urlsafe_b64encode(hashlib.sha256(code_verifier.encode()).digest()).rstrip(b"=").decode()
