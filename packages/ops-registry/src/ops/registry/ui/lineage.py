"""Where a version of a model comes from: its run, the runs above that, their experiment."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from ops.registry.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ops.registry.records import Experiment, ModelVersion, Run
    from ops.registry.tracking.tracker import ExperimentTracker

__all__ = ["Origin", "origin_of"]

_MOST_PARENTS = 20


@dataclasses.dataclass(frozen=True, slots=True)
class Origin:
    """The *runs* from the outermost to the one that made the version; *lost* is a run that is not here."""

    experiment: Experiment | None = None
    runs: Sequence[Run] = ()
    lost: str | None = None


def origin_of(version: ModelVersion, tracker: ExperimentTracker) -> Origin:
    """Follow the run of *version* and its parents; a run of another store, or a deleted one, ends it."""
    wanted = version.metadata.experiment_run_id
    runs: list[Run] = []
    try:
        while wanted is not None and len(runs) < _MOST_PARENTS:
            runs.insert(0, tracker.get_run(wanted))
            wanted = runs[0].parent_run_id
    except NotFoundError:
        pass
    else:
        wanted = None
    experiment = tracker.get_experiment(runs[0].experiment_id) if runs else None
    return Origin(experiment, runs, wanted)
