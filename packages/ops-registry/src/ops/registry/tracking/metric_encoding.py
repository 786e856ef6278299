"""Points of metrics as the JSON that journals have, made without an encoder: training loops wait for it."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

from ops.registry.errors import InvalidValueError
from ops.registry.json_values import encode
from ops.registry.validators import check_key

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeAlias

    #: Key, value, step and nanoseconds since the epoch.
    KeyedPoint: TypeAlias = tuple[str, float, int, int]

__all__ = ["encoded_point", "plain_point", "point", "points_body"]

_FIRST_STEP, _LAST_STEP = -(2**63), 2**63 - 1  # tables have 64 bits for one


def point(key: str, value: Any, step: Any, when: int | str) -> str:
    """Return one point of a metric as the JSON that journals have, or refuse it."""
    return encoded_point(key, *plain_point(key, value, step), when)


def plain_point(key: str, value: Any, step: Any) -> tuple[float, int]:
    """Return value and step as Python's own kinds, or refuse them."""
    if type(value) is not float or type(step) is not int:
        value, step = _converted(key, value, step)
    if not _FIRST_STEP <= step <= _LAST_STEP:
        raise _no_point(key, value, step)
    return value, step


def encoded_point(key: str, value: float, step: int, when: int | str) -> str:
    """Return one point, whose value and step are plain, as the JSON that journals have."""
    if math.isfinite(value):  # its repr is JSON, and several times faster than an encoder
        return f"[{_quoted(key)},{value!r},{step},{when}]"
    return f'[{_quoted(key)},{{"$float":"{value!r}"}},{step},{when}]'


def _converted(key: str, value: Any, step: Any) -> tuple[float, int]:
    try:
        number, whole = float(value), int(step)
    except (TypeError, ValueError, OverflowError) as error:
        raise _no_point(key, value, step) from error
    if whole != step:
        raise _no_point(key, value, step)
    return number, whole


def _no_point(key: str, value: Any, step: Any) -> InvalidValueError:
    return InvalidValueError(
        f"Metric {key!r} must be a number at a whole step of 64 bits, not {value!r:.80} at {step!r:.80}."
    )


def points_body(points: Iterable[str]) -> bytes:
    """Return the record of several points, encoded."""
    return f'{{"m":[{",".join(points)}]}}'.encode()


@functools.lru_cache(maxsize=4096)
def _quoted(key: str) -> str:
    return encode(check_key(key)).decode()
