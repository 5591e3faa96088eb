"""What is measured of every call of a token: how long it took, whether it was done, and a span in the call's trace."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from mesh import metrics, spans
from mesh.hsm.errors import TokenError


@contextmanager
def measured(operation: str) -> Iterator[None]:
    """Measure an operation of `metrics.HSM_OPERATIONS`; around what turns the module's errors into `TokenError`."""
    started = time.perf_counter()
    with spans.span(f"pkcs11 {operation}"):
        try:
            yield
        except TokenError:
            metrics.HSM_ERRORS.add(operation=operation)
            raise
        finally:
            metrics.HSM_OPERATION_DURATION.record(time.perf_counter() - started, operation=operation)
