"""Runs side by side: what is the same, what differs, and numbers to draw."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

from ops.registry.ui.runs_view import value_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ops.registry.records import Run

__all__ = ["Comparison", "compare"]

#: An axis of more texts than this is a heap of labels.
_MOST_TEXTS = 24


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """*rows* are (field, a value per run, whether they differ), those that differ first; *numbers* feed the drawings."""

    rows: Sequence[tuple[str, Sequence[Any], bool]]
    numbers: dict[str, Any]


def compare(runs: Sequence[Run]) -> Comparison:
    """Compare parameters, last metrics and tags."""
    fields = [
        *dict.fromkeys(f"params.{key}" for run in runs for key in run.parameters),
        *dict.fromkeys(f"metrics.{key}" for run in runs for key in run.metrics),
        *dict.fromkeys(f"tags.{key}" for run in runs for key in run.tags),
    ]
    rows = []
    for field in fields:
        values = [value_of(run, field) for run in runs]
        rows.append((field, values, len(set(map(str, values))) > 1))
    drawn = [row for row in rows if row[2] and not row[0].startswith("tags.mlflow.")]
    axes = [_axis(field, values) for field, values, _ in drawn]
    return Comparison(
        rows=sorted(rows, key=lambda row: not row[2]),
        numbers={
            "runs": [{"id": run.run_id, "name": run.name} for run in runs],
            "axes": [axis for axis in axes if axis is not None],
        },
    )


def _axis(field: str, values: Sequence[Any]) -> dict[str, Any] | None:
    """Return an axis of numbers, or of *texts* with the index of one as the value; None for what is neither."""
    numbers = [_number(value) for value in values]
    if all(value is None or n is not None for value, n in zip(values, numbers, strict=True)):
        return {"name": field, "values": numbers}
    texts = sorted({_text(value) for value in values if value is not None})
    if len(texts) > _MOST_TEXTS:
        return None
    at = {text: index for index, text in enumerate(texts)}
    found = [None if value is None else at[_text(value)] for value in values]
    return {"name": field, "values": found, "texts": texts}


def _text(value: Any) -> str:
    return str(value)[:60]


def _number(value: Any) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None
