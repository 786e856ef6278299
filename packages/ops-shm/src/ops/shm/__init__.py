"""NumPy arrays shared between processes that stay safe when a process dies."""

from typing import TYPE_CHECKING

from ops.foundation.lazy import lazy_exports

if TYPE_CHECKING:
    from ops.shm.array import SharedMemoryArray
    from ops.shm.errors import (
        DeadlockError,
        NotConnectedError,
        OwnerDiedError,
        SegmentExistsError,
        SegmentFormatError,
        SegmentNotFoundError,
        ShmError,
        ShmErrorCode,
        UnsupportedArrayError,
        ViewChangedError,
    )
    from ops.shm.segments import SegmentInfo, cleanup_stale, list_segments

__all__ = [
    "DeadlockError",
    "NotConnectedError",
    "OwnerDiedError",
    "SegmentExistsError",
    "SegmentFormatError",
    "SegmentInfo",
    "SegmentNotFoundError",
    "SharedMemoryArray",
    "ShmError",
    "ShmErrorCode",
    "UnsupportedArrayError",
    "ViewChangedError",
    "cleanup_stale",
    "list_segments",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        ".array": ("SharedMemoryArray",),
        ".errors": (
            "DeadlockError",
            "NotConnectedError",
            "OwnerDiedError",
            "SegmentExistsError",
            "SegmentFormatError",
            "SegmentNotFoundError",
            "ShmError",
            "ShmErrorCode",
            "UnsupportedArrayError",
            "ViewChangedError",
        ),
        ".segments": ("SegmentInfo", "cleanup_stale", "list_segments"),
    },
)
