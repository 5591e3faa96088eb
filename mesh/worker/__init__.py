"""Model code runs in sandboxed worker processes; `WorkerPool` is what a service uses of them."""

from mesh.worker.pool import WorkerCallFailedError, WorkerLostError, WorkerPool, WorkersBusyError

__all__ = ["WorkerCallFailedError", "WorkerLostError", "WorkerPool", "WorkersBusyError"]
