"""How an operation is watched: its states that are the last, and how often to ask. Pure."""

import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from finid.auth.v1 import auth_pb2 as auth
from finid.esign.v1 import esign_pb2 as esign

from finid_client.calls import Call

DEFAULT_TIMEOUT_S: Final = 900.0
"""An authentication lives for 15 minutes at most."""
_FIRST_PAUSE_S = 0.5
_MOST_PAUSE_S = 3.0
_GROWTH = 1.3

_LAST_OF_AUTHENTICATION = frozenset(
    {auth.AUTHENTICATION_STATE_FINISHED, auth.AUTHENTICATION_STATE_CANCELLED, auth.AUTHENTICATION_STATE_EXPIRED}
)
_LAST_OF_OPERATION = frozenset({esign.OPERATION_STATE_DONE, esign.OPERATION_STATE_FAILED})


def is_over(
    operation: auth.Authentication | esign.CertificateOrder | esign.CertificateChange | esign.Signature,
) -> bool:
    """Tell whether nothing more will come."""
    if isinstance(operation, auth.Authentication):
        return operation.state in _LAST_OF_AUTHENTICATION
    return operation.state in _LAST_OF_OPERATION


def state_name(
    operation: auth.Authentication | esign.CertificateOrder | esign.CertificateChange | esign.Signature,
) -> str:
    """Return the state's name without its prefix: AWAITING_CODE, DONE."""
    if isinstance(operation, auth.Authentication):
        return auth.AuthenticationState.Name(operation.state).removeprefix("AUTHENTICATION_STATE_")
    return esign.OperationState.Name(operation.state).removeprefix("OPERATION_STATE_")


def name_asked_for(call: Call[Any]) -> str:
    """Return the resource name in a get call."""
    return str(getattr(call.request, "name", ""))


def pauses(timeout_s: float, now: Callable[[], float] = time.monotonic) -> Iterator[float]:
    """Yield how long to wait before asking again, more each time, until the time is up."""
    until, pause_s = now() + timeout_s, _FIRST_PAUSE_S
    while (left_s := until - now()) > 0:
        yield min(pause_s, left_s)
        pause_s = min(_MOST_PAUSE_S, pause_s * _GROWTH)
