"""All locks by one name: between processes, threads and tasks, for readers and writers, by version."""

from ops.foundation.async_locks import AsyncFileLock
from ops.foundation.errors import SelfDeadlockError
from ops.foundation.file_lock import FileLock, LockProtocol
from ops.foundation.optimistic import OptimisticLock
from ops.foundation.readwrite import ReadWriteLock

__all__ = [
    "AsyncFileLock",
    "FileLock",
    "LockProtocol",
    "OptimisticLock",
    "ReadWriteLock",
    "SelfDeadlockError",
]
