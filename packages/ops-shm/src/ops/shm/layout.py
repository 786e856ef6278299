r"""The segment's header: a self-describing page in front of the data.

Words are little-endian unsigned 64-bit, at byte 8 * index. The first cache lines never change after
creation; every word that is written at run time has a cache line (64 bytes) of its own.

    word   0  magic "OPSSHM\0\1"            word  64  SEQ     even: stable, odd: being written
           1  format version                     72  EPOCH   number of the semaphore in force
           2  offset of the data                 80  RECOVERIES
           3  bytes of data                      81  INTERRUPTED   recoveries within a write
           4  length of the description          82  LAST_DEAD     identity of the last dead holder
           5  inode of the PID namespace         83  ACKNOWLEDGED  INTERRUPTED when it was mended
           6  instance (random)                  88  THREAD  thread of a long-lived lock, or 0
                                            96..127  OWNER[epoch % 32]  the holder's identity, or 0
    byte 1024 description: a Python literal {"name", "dtype", "shape", "order", "reads"}, UTF-8

`dtype` is the descriptor of NumPy's NPY format (`numpy.lib.format.dtype_to_descr`).
"""

from __future__ import annotations

import ast
import dataclasses
import math
import secrets
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from ops.shm.errors import SegmentFormatError, UnsupportedArrayError

if TYPE_CHECKING:
    import mmap

MAGIC = int.from_bytes(b"OPSSHM\0\1", "little")
VERSION = 1
PAGE = 4096
DESCRIPTION = 1024

DATA_OFFSET, DATA_BYTES, DESCRIPTION_LENGTH, PID_NAMESPACE, INSTANCE = 2, 3, 4, 5, 6
SEQ, EPOCH, RECOVERIES, INTERRUPTED, LAST_DEAD, ACKNOWLEDGED, THREAD = 64, 72, 80, 81, 82, 83, 88
OWNER, OWNER_SLOTS = 96, 32
#: What reading a Python literal and its fields can raise, whatever the bytes.
_UNREADABLE = (ValueError, SyntaxError, KeyError, TypeError, RecursionError, MemoryError)


@dataclasses.dataclass(frozen=True, slots=True)
class Layout:
    """What an attaching process must know of an array; travels in the header."""

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    order: str
    locked_reads: bool

    @classmethod
    def of(cls, name: str, prototype: np.ndarray, *, locked_reads: bool) -> Layout:
        """Describe *prototype*; raises UnsupportedArrayError when its bytes cannot be shared."""
        if np.ma.isMaskedArray(prototype):
            raise UnsupportedArrayError(
                "A masked array would lose its mask.", suggestions=("Share its `filled(...)`.",)
            )
        if prototype.dtype.hasobject:
            raise UnsupportedArrayError(
                f"An array of dtype {prototype.dtype} holds references to Python objects, "
                "which mean nothing in another process.",
                suggestions=("Use a fixed-size dtype, for example 'U32' for text.",),
            )
        fortran = prototype.flags.f_contiguous and not prototype.flags.c_contiguous
        order = "F" if fortran else "C"
        return cls(name, prototype.dtype, prototype.shape, order, locked_reads)

    @property
    def nbytes(self) -> int:
        """Bytes of data."""
        return math.prod(self.shape) * self.dtype.itemsize

    def description(self) -> bytes:
        """Return the text of the header that describes the array."""
        fields = {
            "name": self.name,
            "dtype": np.lib.format.dtype_to_descr(self.dtype),
            "shape": self.shape,
            "order": self.order,
            "reads": "locked" if self.locked_reads else "auto",
        }
        return repr(fields).encode()

    def header(self, pid_namespace: int) -> bytearray:
        """Return the page (or pages) that precede the data, SEQ 0 and EPOCH 1."""
        text = self.description()
        offset = -(-(DESCRIPTION + len(text)) // PAGE) * PAGE
        page = bytearray(offset)
        words = memoryview(page).cast("Q")
        words[0], words[1] = MAGIC, VERSION
        words[DATA_OFFSET], words[DATA_BYTES] = offset, self.nbytes
        words[DESCRIPTION_LENGTH], words[PID_NAMESPACE] = len(text), pid_namespace
        words[INSTANCE] = secrets.randbits(63) | 1
        words[EPOCH] = 1
        words.release()
        page[DESCRIPTION : DESCRIPTION + len(text)] = text
        return page


def parse(buffer: memoryview, source: str) -> Layout:
    """Read the header in *buffer*; raises SegmentFormatError with what is wrong about *source*."""
    if len(buffer) < PAGE:
        raise SegmentFormatError(f"{source} is no segment of ops.shm: {len(buffer)} bytes.")
    words = buffer[:DESCRIPTION].cast("Q")
    if words[0] != MAGIC:
        raise SegmentFormatError(f"{source} is no segment of ops.shm: its magic is {words[0]:#x}.")
    if words[1] > VERSION:
        raise SegmentFormatError(
            f"{source} has format {words[1]}, this ops-shm reads up to {VERSION}.",
            suggestions=("Upgrade ops-shm.",),
        )
    end = DESCRIPTION + words[DESCRIPTION_LENGTH]
    if len(buffer) < words[DATA_OFFSET] + words[DATA_BYTES] or end > words[DATA_OFFSET]:
        raise SegmentFormatError(f"{source} is cut short: {len(buffer)} bytes.")
    try:
        fields = ast.literal_eval(bytes(buffer[DESCRIPTION:end]).decode())
        found = Layout(
            name=fields["name"],
            dtype=np.lib.format.descr_to_dtype(fields["dtype"]),
            shape=tuple(fields["shape"]),
            order=fields["order"],
            locked_reads=fields["reads"] == "locked",
        )
        sound = min(found.shape, default=0) >= 0 and found.nbytes == words[DATA_BYTES]
    except _UNREADABLE as error:
        raise SegmentFormatError(f"{source} has an unreadable description: {error}") from error
    if found.dtype.hasobject or not sound:
        raise SegmentFormatError(f"{source} has a description that does not fit its data.")
    return found


def word(buffer: mmap.mmap | bytearray, index: int) -> int:
    """Return the header word at *index*."""
    return int.from_bytes(buffer[8 * index : 8 * index + 8], "little")


def array_in(mapped: mmap.mmap, described: Layout) -> np.ndarray:
    """Return the array whose memory is *mapped*; it keeps the mapping alive."""
    return np.ndarray(
        described.shape,
        described.dtype,
        buffer=mapped,
        offset=word(mapped, DATA_OFFSET) if described.nbytes else 0,
        order=cast("Literal['C', 'F']", described.order),
    )
