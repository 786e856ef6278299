"""The two checksums of frames, by the number that a file header names them with.

0 is CRC-32 as in zlib and is always there. 1 is CRC-32C, which processors compute six times faster;
that matters for large messages and needs google-crc32c (extra `crc`). A file that was written with it
is readable only where it is installed, so nothing switches to it silently: OPS_DATALOG_CHECKSUM=crc32c
or `DataLogger(checksum="crc32c")` asks for it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, TypeAlias
from zlib import crc32

from ops.datalog.errors import LogFormatError
from ops.foundation.errors import ValidationError
from ops.foundation.imports import LazyImport

#: (data, checksum of what stands before it = 0) -> checksum of both
Checksum: TypeAlias = Callable[..., int]
ChecksumName: TypeAlias = Literal["crc32", "crc32c"]

_NUMBERS = {"crc32": 0, "crc32c": 1}
_google_crc32c = LazyImport("google_crc32c", "ops-datalog[crc]")


def number_of(name: str) -> int:
    """Return the number of the checksum *name*; raises ValidationError."""
    if name not in _NUMBERS:
        raise ValidationError(f"checksum must be 'crc32' or 'crc32c', not {name!r}.")
    return _NUMBERS[name]


def checksum_of(number: int, source: str) -> Checksum:
    """Return the function; raises LogFormatError (unknown number), MissingExtraError."""
    if number == 0:
        return crc32
    if number == 1:
        return _crc32c()
    raise LogFormatError(f"{source} uses checksum {number}, which this ops-datalog does not know.")


def number_of_checksum(checksum: Checksum) -> int:
    """Return the number of a function that `checksum_of` gave."""
    return 0 if checksum is crc32 else 1


@functools.cache
def _crc32c() -> Checksum:
    extend: Callable[[int, bytes], int] = _google_crc32c.extend

    def crc32c(data: Any, before: int = 0) -> int:
        # Its C function takes read-only memory only.
        return extend(before, data if type(data) is bytes else bytes(data))

    return crc32c
