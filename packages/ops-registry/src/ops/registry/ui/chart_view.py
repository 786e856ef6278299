"""The charts that a reader has chosen to see: every field is one of the address, so that an address is a view."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

from ops.foundation.errors import ValidationError
from ops.registry.ui.curves import Axis
from ops.registry.ui.runs_view import value_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ops.registry.records import Run

__all__ = ["ChartView", "group_fields", "group_of", "listed"]

_MOST_GROUP_FIELDS = 200


@dataclasses.dataclass(frozen=True, slots=True)
class ChartView:
    """*group* is a column (status, params.*, tags.*), *hidden* the runs whose curves are not drawn.

    *smooth* is the weight of the exponential average, from 0 to 0.99; with *average* each group is one curve with a
    band from its smallest to its largest value; *metric* is a part of the names of the metrics that are shown.
    """

    x: str = "step"
    smooth: float = 0.0
    log: bool = False
    average: bool = False
    metric: str = ""
    group: str = ""
    hidden: tuple[str, ...] = ()

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> ChartView:
        """Read the query of an address; raises `ValidationError` for what makes no sense."""
        try:
            smooth = float(query.get("smooth") or 0)
        except ValueError:
            smooth = math.nan
        if not 0 <= smooth <= 0.99:
            raise ValidationError(
                f"smooth is a number from 0 to 0.99, not {query['smooth']!r:.80}."
            )
        group = query.get("group", "")
        if group not in {"", "status"} and not group.startswith(("params.", "tags.")):
            raise ValidationError(f"group is status, params.NAME or tags.NAME, not {group!r:.80}.")
        return cls(
            x=str(Axis.parse(query.get("x", "step"))),
            smooth=smooth,
            log=query.get("log") == "1",
            average=query.get("average") == "1",
            metric=query.get("metric", ""),
            group=group,
            hidden=tuple(r for r in query.get("hidden", "").split(",") if r),
        )


def group_fields(runs: Sequence[Run]) -> list[str]:
    """Return what *runs* can be grouped by: what has more than one value first."""
    fields: dict[str, set[str]] = {"status": {str(run.status) for run in runs}}
    for run in runs:
        for key, value in run.parameters.items():
            fields.setdefault(f"params.{key}", set()).add(str(value))
        for key, tag in run.tags.items():
            if not key.startswith("mlflow."):
                fields.setdefault(f"tags.{key}", set()).add(tag)
    return sorted(fields, key=lambda f: (len(fields[f]) < 2, f != "status", f))[:_MOST_GROUP_FIELDS]


def group_of(run: Run, field: str) -> str:
    """Return the group of *run* by *field*; "" without a field."""
    if not field:
        return ""
    value = str(run.status) if field == "status" else value_of(run, field)
    if isinstance(value, float):
        value = f"{value:.6g}"
    return "(none)" if value is None else str(value)[:80]


def listed(runs: Sequence[Run], view: ChartView) -> list[dict[str, Any]]:
    """Return *runs* as the page lists them and its charts draw them, runs of a group together."""
    rows = [
        {
            "id": run.run_id,
            "name": run.name or run.run_id,
            "status": str(run.status),
            "deleted": run.deleted_at is not None,
            "group": group_of(run, view.group),
        }
        for run in runs
    ]
    return sorted(rows, key=lambda row: _natural(row["group"]))


def _natural(text: str) -> tuple[bool, float, str]:
    """Sort numbers as numbers, before texts."""
    try:
        return False, float(text), text
    except ValueError:
        return True, 0.0, text
