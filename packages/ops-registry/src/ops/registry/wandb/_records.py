"""How a run of W&B stands in a record of ours: its id, its labels and its summary are tags."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from ops.registry.errors import InvalidValueError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ops.registry import records
    from ops.registry.context import MLOpsContext

__all__ = ["LABELS", "NOTES", "SUMMARY", "find_run", "labels_of", "labels_text", "summary_tags"]

#: The tags with the notes, as MLflow has them, and with the labels, and how those of the summary begin.
NOTES = "mlflow.note.content"
LABELS = "labels"
SUMMARY = "summary."


def find_run(context: MLOpsContext, experiment_id: str, own_id: str) -> records.Run | None:
    """Return the run of an experiment that was started with *own_id*, or has it in the store."""
    tracker = context.experiment_tracker
    try:
        run = tracker.get_run(own_id)
    except (NotFoundError, InvalidValueError):
        runs: Iterable[records.Run] = tracker.list_runs(experiment_id)
        return next((one for one in runs if one.tags.get("wandb_id") == own_id), None)
    return run if run.experiment_id == experiment_id else None


def labels_text(labels: Sequence[str]) -> str:
    """Return labels as one text: with ", " between, or as JSON when one has that in it.

    Raises `InvalidValueError` for what is no list of texts, and for one text.
    """
    if isinstance(labels, str) or not all(isinstance(one, str) for one in labels):
        raise InvalidValueError(
            f"tags is a list of texts such as ['baseline'], not {labels!r:.80}."
        )
    text = ", ".join(labels)
    return text if labels_of(text) == tuple(labels) else json.dumps(list(labels))


def labels_of(text: str) -> tuple[str, ...]:
    """Return the labels of a text that `labels_text` made."""
    if text.startswith("["):
        with contextlib.suppress(ValueError):
            return tuple(map(str, json.loads(text)))
    return tuple(text.split(", ")) if text else ()


def summary_tags(run: records.Run) -> dict[str, Any]:
    """Return what the summary of a run has beside numbers; lists and mappings are kept as JSON."""
    found: dict[str, Any] = {}
    for name, text in run.tags.items():
        if name.startswith(SUMMARY):
            value: Any = text
            if text[:1] in {"[", "{"}:
                with contextlib.suppress(ValueError):
                    value = json.loads(text)
            found[name.removeprefix(SUMMARY)] = value
    return found
