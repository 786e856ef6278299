r"""The segment's header: a self-describing page, the flags of those who use the lock, then the data.

Words are little-endian unsigned 64-bit, at byte 8 * index. The first cache lines never change after
creation; every word that is written at run time has a cache line (64 bytes) of its own.

    word   0  magic "OPSSHM\0\1"            word  64  SEQ     even: stable, odd: being written
           1  format version                     72  HOLDS   holds of the lock that wrote nothing
           2  offset of the data                 80  RECOVERIES
           3  bytes of data                      81  INTERRUPTED   recoveries within a write
           4  length of the description          82  ACKNOWLEDGED  INTERRUPTED when it was repaired
           5  inode of the PID namespace         88  RETIRED  0, or 1: destroyed, 2: replaced
           6  instance (random)
           7  offset of the flags
           8  identity of the creator
           9  boot of the creator (hash)
    byte 1024 description: a Python literal {"name", "dtype", "shape", "order", "reads"}, UTF-8
    flags    8192 bytes: 1024 blocks of 8, see `lock`

`dtype` is the descriptor of NumPy's NPY format (`numpy.lib.format.dtype_to_descr`).
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import math
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from ops.foundation import processes
from ops.shm.errors import SegmentFormatError, UnsupportedArrayError

if TYPE_CHECKING:
    from ops.shm.mapping import Mapped

MAGIC = int.from_bytes(b"OPSSHM\0\1", "little")
VERSION = 2
PAGE = 4096
DESCRIPTION = 1024

DATA_OFFSET, DATA_BYTES, DESCRIPTION_LENGTH, PID_NAMESPACE, INSTANCE = 2, 3, 4, 5, 6
FLAGS_OFFSET, CREATOR, BOOT = 7, 8, 9
SEQ, HOLDS, RECOVERIES, INTERRUPTED, ACKNOWLEDGED, RETIRED = 64, 72, 80, 81, 82, 88
DESTROYED, REPLACED = 1, 2
#: Connections of one segment, and how many of its threads may try for the lock at once.
BLOCKS, BLOCK = 1024, 8
FLAGS = BLOCKS * BLOCK
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
        """Return what precedes the data; every flag and every word of run time is 0."""
        text = self.description()
        flags = -(-(DESCRIPTION + len(text)) // PAGE) * PAGE
        page = bytearray(flags + FLAGS)
        words = memoryview(page).cast("Q")
        words[0], words[1] = MAGIC, VERSION
        words[DATA_OFFSET], words[DATA_BYTES] = flags + FLAGS, self.nbytes
        words[DESCRIPTION_LENGTH], words[PID_NAMESPACE] = len(text), pid_namespace
        words[FLAGS_OFFSET], words[INSTANCE] = flags, secrets.randbits(63) | 1
        words[CREATOR], words[BOOT] = processes.this_process(), this_boot()
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
    if words[1] != VERSION:
        raise SegmentFormatError(
            f"{source} has format {words[1]}, this ops-shm reads format {VERSION}.",
            suggestions=("Use one version of ops-shm in all processes.",),
        )
    end = DESCRIPTION + words[DESCRIPTION_LENGTH]
    flags, data = words[FLAGS_OFFSET], words[DATA_OFFSET]
    if len(buffer) < data + words[DATA_BYTES] or end > flags or flags + FLAGS > data:
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


def array_in(mapped: Mapped, described: Layout) -> np.ndarray:
    """Return the array whose memory is *mapped*, read-only where the mapping is."""
    order = cast("Literal['C', 'F']", described.order)
    if not described.nbytes:
        return np.empty(described.shape, described.dtype, order)
    # Not `np.ndarray(buffer=…)`, whose writeable flag could be set on a read-only mapping.
    start, size = mapped.words[DATA_OFFSET], math.prod(described.shape)
    flat = np.frombuffer(mapped.memory, described.dtype, size, start)
    return flat.reshape(described.shape, order=order)


def creator_may_live(words: memoryview) -> bool:
    """Return whether the process that made a segment may still run; one that cannot be seen may."""
    if words[BOOT] != this_boot():
        return False
    return words[PID_NAMESPACE] != processes.pid_namespace() or processes.is_alive(words[CREATOR])


@functools.cache
def this_boot() -> int:
    """Return 63 bits that are the same in every process until the machine is started again."""
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_bytes()
    except (
        FileNotFoundError,
        PermissionError,
    ):  # a sandbox without it: all of its life is one boot
        text = b""
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1
