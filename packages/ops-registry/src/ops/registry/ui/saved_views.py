"""Views with names: what an address shows of an experiment, kept as a tag of it, so that others find it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

from ops.foundation.errors import ValidationError

if TYPE_CHECKING:
    from ops.registry.records import Experiment
    from ops.registry.tracking.tracker import ExperimentTracker

__all__ = ["SavedView", "drop_view", "save_view", "views_of"]

_TAG = "ops.ui.view."
_KINDS = {"table": "", "charts": "/charts"}
_TABLE = ("filter", "order", "size", "summary", "differing", "tree", "deleted", "columns")
_CHARTS = ("x", "smooth", "log", "average", "metric", "group", "hidden")
_KEPT = frozenset((*_TABLE, *_CHARTS))


@dataclasses.dataclass(frozen=True, slots=True)
class SavedView:
    """*address* is what follows the address of the experiment: a path of ours and a query."""

    name: str
    address: str


def views_of(experiment: Experiment) -> list[SavedView]:
    """Return the views of an experiment by name."""
    return [
        SavedView(key.removeprefix(_TAG), _address(*value.partition("?")[::2]))
        for key, value in sorted(experiment.tags.items())
        if key.startswith(_TAG)
    ]


def save_view(
    tracker: ExperimentTracker, experiment_id: str, name: str, kind: str, query: str
) -> SavedView:
    """Keep the *query* of the view *kind*, table or charts, as *name*; what had that name before is replaced."""
    if kind not in _KINDS:
        raise ValidationError(f"kind is one of {', '.join(_KINDS)}, not {kind!r:.80}.")
    saved = SavedView(name.strip(), _address(kind, query))
    tracker.set_experiment_tag(
        experiment_id, f"{_TAG}{saved.name}", f"{kind}?{saved.address.partition('?')[2]}"
    )
    return saved


def drop_view(tracker: ExperimentTracker, experiment_id: str, name: str) -> None:
    """Remove a view; one that is not there is no error."""
    tracker.delete_experiment_tag(experiment_id, f"{_TAG}{name}")


def _address(kind: str, query: str) -> str:
    """Return an address of ours, whatever a tag has."""
    kept = [(k, v) for k, v in parse_qsl(query.removeprefix("?")) if k in _KEPT]
    return _KINDS.get(kind, "") + (f"?{urlencode(kept)}" if kept else "")
