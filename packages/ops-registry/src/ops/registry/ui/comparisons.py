"""Runs side by side: what is the same, what differs, and numbers to draw."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from ops.registry.ui.runtables import value_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ops.registry.records import Run

__all__ = ["Comparison", "compare"]


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """*rows* are (field, a value per run, whether they differ); *numbers* feed the drawings."""

    rows: Sequence[tuple[str, Sequence[Any], bool]]
    metrics: Sequence[str]
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
    drawn = [(field, values) for field, values, differ in rows if differ and _is_axis(values)]
    return Comparison(
        rows=rows,
        metrics=list(dict.fromkeys(key for run in runs for key in run.metrics)),
        numbers={
            "runs": [{"id": run.run_id, "name": run.name} for run in runs],
            "axes": [{"name": field, "values": list(map(_number, v))} for field, v in drawn],
        },
    )


def _is_axis(values: Sequence[Any]) -> bool:
    return all(value is None or _number(value) is not None for value in values)


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, int | float) and abs(value) < float("inf"):
        return float(value)
    return None
