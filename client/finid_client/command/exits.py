"""Exit codes, for scripts: they stay as they are."""

from enum import IntEnum

from finid_client.errors import (
    ConfigurationError,
    FinIdClientError,
    NotFinishedError,
    TooManyError,
    UnavailableError,
)


class Exit(IntEnum):
    """What happened."""

    DONE = 0
    """It was done; a document is TOTAL-PASSED."""
    NO = 1
    """The answer is no: another person, a signature or certificate that failed; a document is TOTAL-FAILED."""
    INDETERMINATE = 2
    """A document can be told neither good nor bad with what is known."""
    NOT_FINISHED = 3
    """The person gave up, or the time was up. Nothing was done."""
    REFUSED = 4
    """FinID, or this command, refuses; the reason is printed. Repeating it as it is changes nothing."""
    TRY_AGAIN = 5
    """FinID is away or busy: the same may succeed later."""
    USAGE = 64
    """Arguments, settings or files are wrong. Nothing was asked of FinID."""
    INTERRUPTED = 130
    """Ctrl-C."""


def exit_of(error: FinIdClientError) -> Exit:
    """Return the exit code of an error."""
    match error:
        case ConfigurationError():
            return Exit.USAGE
        case NotFinishedError():
            return Exit.NOT_FINISHED
        case UnavailableError():
            return Exit.TRY_AGAIN
        case TooManyError() if error.retry_after_s is not None:
            return Exit.TRY_AGAIN
        case _:
            return Exit.REFUSED
