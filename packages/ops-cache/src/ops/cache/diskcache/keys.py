"""Keys of any kind that diskcache takes, as keys of a `DiskCache`.

Plain keys stay as they are. Others that `ops.serialize` can write as data, such as dates, become a tuple of a
mark and those bytes, which are read without running anything. What is neither is refused, since diskcache
pickles it, and a pickle on disk is a program.
"""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING, Any

from ops.cache.disk.keys import encode_key
from ops.cache.errors import InvalidKeyError
from ops.serialize.errors import SerializeError
from ops.serialize.limits import Budget
from ops.serialize.tree_reader import decode_tree
from ops.serialize.tree_writer import encode_tree
from ops.serialize.trust import allowed_by

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["from_stored", "to_stored"]

_MARK = "ops.cache.diskcache"


def to_stored(key: Hashable) -> Hashable:
    """Return the key under which *key* is stored; raises `InvalidKeyError` for what is no data."""
    try:
        encode_key(b"", key)
    except InvalidKeyError:
        try:
            data, _ = encode_tree(key, allowed_by("safe"))
        except SerializeError as error:
            raise InvalidKeyError(
                f"{reprlib.repr(key)} cannot be a key: {error}",
                suggestions=("Use a str, or a tuple of plain values.",),
            ) from error
        return (_MARK, bytes(data))
    return key


def from_stored(key: Any) -> Any:
    """Return the key that `to_stored` was given."""
    if isinstance(key, tuple) and len(key) == 2 and key[0] == _MARK and type(key[1]) is bytes:
        return decode_tree(key[1], (), allowed_by("safe"), Budget(len(key[1])))
    return key
