"""What can go wrong with a token, as callers see it, and how PKCS#11's own errors become that."""

from collections.abc import Iterator
from contextlib import contextmanager

import pkcs11.exceptions as p11

from mesh.errors import Code, FinIdError


class TokenError(FinIdError):
    """Base of every error of a token."""


class TokenUnavailableError(TokenError):
    """The token or its module is away, broken or too slow; the call may be retried."""

    code = Code.UNAVAILABLE
    reason = "TOKEN_UNAVAILABLE"


class TokenBusyError(TokenError):
    """More calls wait for the token than its queue holds; the call may be retried a little later."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "TOKEN_BUSY"


class TokenPinRefusedError(TokenUnavailableError):
    """The token refuses the PIN. Nobody tries again before a restart: three wrong PINs lock a real token."""

    reason = "TOKEN_PIN_REFUSED"


class DevelopmentTokenError(TokenError):
    """A development token where certified devices are required."""

    reason = "DEVELOPMENT_TOKEN"


class TokenKeyMissingError(TokenUnavailableError):
    """The token holds no such key: the ceremony did not run, or the settings name another token."""

    reason = "TOKEN_KEY_MISSING"


class TokenKeyExistsError(TokenError):
    """The token holds a key of that label already; nothing was generated."""

    code = Code.ALREADY_EXISTS
    reason = "TOKEN_KEY_EXISTS"


class KekTemplateRefusedError(TokenError):
    """The module cannot make, or the token does not hold, a KEK that forces what it unwraps to be sensitive."""

    code = Code.FAILED_PRECONDITION
    reason = "KEK_TEMPLATE_REFUSED"


class WrappedKeyRefusedError(TokenError):
    """A wrapped key does not parse, or its KEK does not open it: it was damaged, or comes from another token."""

    code = Code.FAILED_PRECONDITION
    reason = "WRAPPED_KEY_REFUSED"


_PIN_ERRORS = (p11.PinIncorrect, p11.PinLocked, p11.PinExpired, p11.PinInvalid, p11.PinLenRange)


@contextmanager
def talking_to_the_token() -> Iterator[None]:
    """Turn whatever the module raises into a `TokenError`; the module's own error stays as the cause.

    Raises:
        TokenPinRefusedError: the PIN is wrong, locked or expired.
        TokenUnavailableError: anything else the module reports.
    """
    try:
        yield
    except _PIN_ERRORS as error:
        raise TokenPinRefusedError("the token refuses its PIN") from error
    except p11.PKCS11Error as error:
        raise TokenUnavailableError("the token does not answer") from error
