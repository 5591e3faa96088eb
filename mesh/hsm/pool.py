"""The asynchronous front of a token: a few threads, a bounded queue, a time limit for every call."""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from mesh.hsm.errors import TokenBusyError, TokenError, TokenUnavailableError
from mesh.hsm.token import Token

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

# Measured with SoftHSM on two cores: a third thread gains nothing.
MAX_THREADS = 2


class TokenPool:
    """Runs a token's blocking calls in threads of its own: `await pool.call(token.sign_digest, label, digest)`.

    A call that is given up (time limit, cancelled) before its turn is never made. One already with the token cannot
    be called back: its effect is unknown, which is why intents are recorded first.
    """

    def __init__(
        self, token: Token, *, threads: int = MAX_THREADS, queue_limit: int = 64, call_timeout_s: float = 10.0
    ) -> None:
        """Start no thread yet; the first calls do."""
        if not 1 <= threads <= MAX_THREADS:
            raise ValueError(f"a token is worked with 1 to {MAX_THREADS} threads")
        self.token = token
        self._call_timeout_s = call_timeout_s
        self._places = threads + queue_limit
        self._waiting = 0
        self._away: TokenError | None = None
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="token")
        # Apart from the others, so that health does not wait behind work.
        self._probe_thread = ThreadPoolExecutor(1, thread_name_prefix="token-probe")

    async def call(
        self, function: Callable[_Arguments, _Result], *args: _Arguments.args, **kwargs: _Arguments.kwargs
    ) -> _Result:
        """Run a blocking function that uses the token.

        Raises:
            TokenBusyError: the queue is full.
            TokenUnavailableError: no answer within the time limit.
            TokenError: whatever the function raises.
        """
        if self._waiting >= self._places:
            raise TokenBusyError("too many calls wait for the token", retry_after_s=1.0)
        self._waiting += 1
        try:
            return await _run(self._threads, self._call_timeout_s, lambda: function(*args, **kwargs))
        finally:
            self._waiting -= 1

    async def probe(self, *, timeout_s: float = 1.0) -> None:
        """Check the token, and recover it if it came back; for health, about once a second.

        Raises:
            TokenError: the token is away.
        """
        try:
            await _run(self._probe_thread, timeout_s, self.token.probe)
        except TokenError as error:
            self._away = error
            raise
        self._away = None

    def require_present(self) -> None:
        """Refuse at once while the last probe has found the token away: nothing is begun that cannot go on.

        Raises:
            TokenUnavailableError: it is away.
        """
        if self._away is not None:
            raise TokenUnavailableError("the token is away", retry_after_s=1.0) from self._away

    def close(self) -> None:
        """Take no more calls. Does not wait for a call that hangs in the module."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._probe_thread.shutdown(wait=False, cancel_futures=True)


async def _run(threads: ThreadPoolExecutor, timeout_s: float, work: Callable[[], _Result]) -> _Result:
    try:
        async with asyncio.timeout(timeout_s):
            # In the caller's context, so that the token's spans stand in the caller's trace.
            context = contextvars.copy_context()
            return await asyncio.get_running_loop().run_in_executor(threads, context.run, work)
    except TimeoutError as error:
        raise TokenUnavailableError("the token has not answered in time") from error
