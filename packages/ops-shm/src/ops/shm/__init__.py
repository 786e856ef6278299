"""NumPy arrays shared between processes that stay safe when a process dies."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ops.shm.array import SharedMemoryArray as SharedMemoryArray
    from ops.shm.errors import DeadlockError as DeadlockError
    from ops.shm.errors import NotConnectedError as NotConnectedError
    from ops.shm.errors import OwnerDiedError as OwnerDiedError
    from ops.shm.errors import ReadOnlyError as ReadOnlyError
    from ops.shm.errors import SegmentExistsError as SegmentExistsError
    from ops.shm.errors import SegmentFormatError as SegmentFormatError
    from ops.shm.errors import SegmentNotFoundError as SegmentNotFoundError
    from ops.shm.errors import ShmError as ShmError
    from ops.shm.errors import ShmErrorCode as ShmErrorCode
    from ops.shm.errors import StaleSegmentError as StaleSegmentError
    from ops.shm.errors import UnsupportedArrayError as UnsupportedArrayError
    from ops.shm.errors import ViewChangedError as ViewChangedError
    from ops.shm.segments import SegmentInfo as SegmentInfo
    from ops.shm.segments import cleanup_stale as cleanup_stale
    from ops.shm.segments import list_segments as list_segments
else:  # Written by `nox -s lint -- --fix` from the imports above.
    from ops.foundation.lazy import lazy_exports

    __all__, __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            ".array": "SharedMemoryArray",
            ".errors": (
                "DeadlockError NotConnectedError OwnerDiedError ReadOnlyError SegmentExistsError "
                "SegmentFormatError SegmentNotFoundError ShmError ShmErrorCode StaleSegmentError "
                "UnsupportedArrayError ViewChangedError"
            ),
            ".segments": "SegmentInfo cleanup_stale list_segments",
        },
    )
