"""Keys of dicts and sets, and labels: how long hashing and comparing them may take.

An equal hash means a comparison, and hashes of numbers can be chosen. A comparison takes the square of the
length of a number where a Decimal is compared with it, and as many steps as a tuple has parts, so both are
counted before anything is put into a dict or a set.
"""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Any

from ops.serialize.errors import CorruptDataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ops.serialize.limits import Budget

__all__ = ["STEADY", "charge_keys", "words_of"]

_MAX_COLLISIONS = 64  # keys of one dict or set with the same hash
_FEW = 256  # keys of which any number may collide
# Their hashes are keyed for each process, or are the numbers themselves.
STEADY: frozenset[type] = frozenset((str, bytes, bool, type(None)))


def words_of(size: int) -> int:
    """Return the steps that hashing a number of *size* bytes takes."""
    return 1 + size // 64


def charge_keys(
    budget: Budget, keys: Sequence[Any], weights: int, heaviest: int, words: int
) -> int:
    """Refuse keys that take long to hash or to compare; return the steps that they take.

    Args:
        budget: Where the steps are counted, before they are made.
        keys: The keys. None of them may be nested so deep that hashing it recurses without end.
        weights: The parts that hashing all of them visits.
        heaviest: The parts of the largest one.
        words: What hashing the longest number among the parts takes, of `words_of`.

    Raises `CorruptDataError`.
    """
    steps = words * weights
    budget.take_time(steps)
    hashes = [*map(hash, keys)]
    if len(set(hashes)) == len(hashes):
        return steps
    distinct = {id(key): at for key, at in zip(keys, hashes, strict=True)}  # one needs no comparing
    counts = collections.Counter(distinct.values())
    most = max(counts.values())
    if len(keys) > _FEW and most > _MAX_COLLISIONS:
        raise CorruptDataError(f"More than {_MAX_COLLISIONS} keys have the same hash.")
    pairs = sum(count * (count - 1) // 2 for count in counts.values())
    compared = words * words * heaviest * pairs
    budget.take_time(compared)
    return steps + compared
