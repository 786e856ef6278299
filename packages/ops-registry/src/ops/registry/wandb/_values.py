"""What `log` and `summary` make of a value: a number, or something that is kept as a file."""

from __future__ import annotations

from typing import Any

from ops.registry.logged_values import flattened, number_of
from ops.registry.wandb.media import Html, Image, Media, Plain
from ops.registry.wandb.pictures import is_figure, is_page_of_plots, is_pillow
from ops.registry.wandb.tables import Table, is_frame

__all__ = ["media_of", "parted"]

#: Kinds of NumPy's dtypes whose elements can be numbers of Python all the same: times in nanoseconds, and texts.
_NO_NUMBERS = frozenset("mMUSO")


def parted(values: dict[str, Any]) -> tuple[dict[str, float], dict[str, Any]]:
    """Return the numbers, and everything else but None, of which W&B makes nothing either; nested names have "."."""
    numbers, others = {}, {}
    for key, value in flattened(values).items():
        number = _number(value)
        if number is not None:
            numbers[key] = number
        elif value is not None:
            others[key] = value
    return numbers, others


def media_of(value: Any) -> list[Media]:
    """Return what a value is kept as: several for a list of pictures, plots, tables and the like.

    Raises `InvalidValueError` for what has no form.
    """
    one = _medium(value)
    if one is not None:
        return [one]
    if isinstance(value, (list, tuple)) and value:
        several = [_medium(item) for item in value]
        found = [item for item in several if item is not None]
        if len(found) == len(several):
            return found
    return [Plain(value)]


def _medium(value: Any) -> Media | None:
    if isinstance(value, Media):
        return value
    if is_frame(value):
        return Table(dataframe=value)
    if is_figure(value) or is_pillow(value):
        return Image(value)
    return Html(value.to_html()) if is_page_of_plots(value) else None


def _number(value: Any) -> float | None:
    """Return a number of Python, NumPy or a tensor with one element; None for anything else, and for text."""
    if isinstance(value, (bool, int, float)):
        return number_of(value)
    if isinstance(value, (str, bytes)):
        return None
    if hasattr(value, "numpy") and not hasattr(value, "item"):  # TensorFlow
        value = value.numpy()
    if not _has_one(value) or getattr(getattr(value, "dtype", None), "kind", "") in _NO_NUMBERS:
        return None
    try:
        return float(value.item())
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return None


def _has_one(value: Any) -> bool:
    if not hasattr(value, "item"):
        return False
    count = getattr(value, "numel", None)
    if callable(count):
        return bool(count() == 1)
    return getattr(value, "size", 1) in {1, ()}
