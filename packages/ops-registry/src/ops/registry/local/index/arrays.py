"""Arrow arrays from Python values, without what `pyarrow.array` does first: import pandas.

That import takes about a second, and neither searching nor compacting needs pandas. The buffers
are made here with the standard library, in the layout that Arrow documents for its columnar format.
"""

from __future__ import annotations

import array
import itertools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["compute", "filled", "flags", "instants", "null", "numbers", "texts", "wholes"]


def numbers(values: Sequence[float | None]) -> Any:
    """Return float64 values; None is null, NaN stays NaN."""
    import pyarrow as pa

    data = array.array("d", [0.0 if v is None else v for v in values])
    return _nullable(pa.float64(), [pa.py_buffer(data)], values)


def wholes(values: Sequence[int | None]) -> Any:
    """Return int64 values; None is null, what does not fit 64 bits becomes the nearest that does."""
    import pyarrow as pa

    limit = 2**63
    data = array.array("q", [0 if v is None else max(-limit, min(v, limit - 1)) for v in values])
    return _nullable(pa.int64(), [pa.py_buffer(data)], values)


def instants(values: Sequence[int | None]) -> Any:
    """Return times in UTC from nanoseconds since the epoch."""
    import pyarrow as pa

    return wholes(values).view(pa.timestamp("ns", tz="UTC"))


def texts(values: Sequence[str | None]) -> Any:
    """Return strings with 64-bit offsets; lone surrogates, which UTF-8 has not, become "?"."""
    import pyarrow as pa

    parts = [b"" if v is None else v.encode("utf-8", "replace") for v in values]
    ends = array.array("q", itertools.accumulate(map(len, parts), initial=0))
    buffers = [pa.py_buffer(ends), pa.py_buffer(b"".join(parts))]
    return _nullable(pa.large_string(), buffers, values)


def flags(values: Sequence[bool]) -> Any:
    """Return booleans."""
    import pyarrow as pa

    pc = compute()

    data = pa.Array.from_buffers(pa.uint8(), len(values), [None, pa.py_buffer(bytes(values))])
    return pc.cast(data, pa.bool_())


def null(kind: Any) -> Any:
    """Return the null scalar of a type."""
    import pyarrow as pa

    return pa.nulls(1, kind)[0]


def filled(mask: Any, answer: bool) -> Any:  # noqa: FBT001 - an answer like those in the mask
    """Return a mask with *answer* in place of its nulls."""
    pc = compute()

    return pc.fill_null(mask, flags([answer])[0])


def _nullable(kind: Any, buffers: list[Any], values: Sequence[object]) -> Any:
    import pyarrow as pa

    pc = compute()

    whole = pa.Array.from_buffers(kind, len(values), [None, *buffers])
    if None not in values:
        return whole
    return pc.if_else(flags([v is not None for v in values]), whole, null(kind))


def compute() -> Any:
    """Return `pyarrow.compute`, whose functions are made at import: type checkers see none of them."""
    import pyarrow.compute as pc

    return pc
