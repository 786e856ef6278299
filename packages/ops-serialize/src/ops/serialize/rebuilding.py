"""What pickles in containers of format 1 name for NumPy's arrays and dtypes.

Nothing writes these names any more. They stay where they are, since they stand in files, which are read
where the caller vouches for them (`trust="all"`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["array_dtype", "blank_array", "structured_dtype", "text_dtype"]


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
