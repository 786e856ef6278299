"""NumPy's arrays and dtypes in streams, in terms that cannot be made to lie.

NumPy's own pickles hand `dtype.__setstate__` the flags and offsets of fields, and `ndarray` a buffer
for any dtype, and NumPy believes them: a stream of 60 bytes could have arbitrary memory read, or taken
for Python objects. So streams name the functions below, which go through NumPy's checked constructors,
and `trust="safe"` knows neither `numpy.dtype` nor `numpy.ndarray`. Their names stand in files: they
stay as they are.
"""

from __future__ import annotations

import copyreg
import functools
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["array_dtype", "blank_array", "reducers", "structured_dtype", "text_dtype"]


def reducers() -> dict[type, Callable[[Any], Any]] | None:
    """Return how a pickler is to take things apart, None when its own ways will do."""
    if "numpy" not in sys.modules:
        return None
    return {**copyreg.dispatch_table, **_numpy_reducers()}


@functools.cache
def _numpy_reducers() -> dict[type, Callable[[Any], Any]]:
    import numpy as np

    kinds: list[Any] = [np.dtype]
    found: dict[type, Any] = {}
    for kind in kinds:
        kinds += kind.__subclasses__()
        found[kind] = _reduced_dtype
    return {**found, np.ndarray: _reduced_array}


def _reduced_array(array: Any) -> Any:
    make, arguments, *state = array.__reduce_ex__(5)
    if make.__name__ == "_reconstruct":
        make, arguments = blank_array, ()
    return make, arguments, *state


def _reduced_dtype(dtype: Any) -> Any:
    import numpy as np

    metadata = dict(dtype.metadata or {})
    if dtype.fields is not None:
        parts = [dtype.fields[name] for name in dtype.names]
        return structured_dtype, (
            dtype.names,
            [part[0] for part in parts],
            [part[1] for part in parts],
            [part[2] if len(part) > 2 else None for part in parts],
            dtype.itemsize,
            dtype.isalignedstruct,
            metadata,
        )
    if dtype.subdtype is not None:
        return array_dtype, (*dtype.subdtype, metadata)
    try:
        if np.dtype(dtype.str) == dtype:
            return text_dtype, (dtype.str, metadata)
    except TypeError:
        pass
    return dtype.__reduce__()  # of another library, or with settings that its text does not have


def blank_array() -> Any:
    """Return an array for `__setstate__`, which checks sizes and takes object arrays as lists."""
    import numpy as np

    return np.empty(0, np.int8)


def text_dtype(text: str, metadata: dict[str, Any]) -> Any:
    """Return the dtype that *text* describes, such as "<f8" or "<M8[ns]"."""
    import numpy as np

    options: Any = {"metadata": metadata} if metadata else {}
    return np.dtype(str(text), **options)


def array_dtype(base: Any, shape: tuple[int, ...], metadata: dict[str, Any]) -> Any:
    """Return the dtype of items that are arrays of *shape*."""
    import numpy as np

    options: Any = {"metadata": metadata} if metadata else {}
    return np.dtype((base, shape), **options)


def structured_dtype(
    names: Sequence[str],
    formats: Sequence[Any],
    offsets: Sequence[int],
    titles: Sequence[Any],
    itemsize: int,
    aligned: bool,  # noqa: FBT001 - arguments of a stream have no names
    metadata: dict[str, Any],
) -> Any:
    """Return a dtype with fields; NumPy checks that they fit and that no object is overlapped."""
    import numpy as np

    described: Any = {
        "names": list(names),
        "formats": list(formats),
        "offsets": list(offsets),
        "itemsize": itemsize,
    }
    if any(title is not None for title in titles):
        described["titles"] = list(titles)
    options: Any = {"metadata": metadata} if metadata else {}
    return np.dtype(described, align=bool(aligned), **options)
