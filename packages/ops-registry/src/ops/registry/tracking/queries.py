"""Reading runs: one, all, those that a search finds, and how they compare; nothing here needs a process that writes."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ops.registry.errors import InvalidValueError, no_experiment
from ops.registry.search.query import Query, to_table
from ops.registry.tracking.run_access import RunAccess
from ops.registry.validators import check_status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import pandas as pd

    from ops.registry.records import Metric, Run, RunStatus
    from ops.registry.tracking.ports import Follower

__all__ = ["RunQueries", "experiment_ids"]


def experiment_ids(given: str | Sequence[str]) -> list[str]:
    """Return the ids of the requested experiments, one or several, each of them once."""
    if isinstance(given, str):
        return [given]
    if not isinstance(given, Iterable):
        raise no_experiment(given)
    found = list(given)
    for one in found:
        if not isinstance(one, str):
            raise no_experiment(one)
    return list(dict.fromkeys(found))


class RunQueries(RunAccess):
    """Answers questions about runs, also about those that other processes write now."""

    def get_run(self, run_id: str) -> Run:
        """Return the run as it is now."""
        return self._runs.run(run_id)

    def follow(
        self,
        run_id: str,
        *,
        interval_seconds: float = 0.5,
        sleep: Callable[[float], object] = time.sleep,
    ) -> Iterator[Metric]:
        """Yield the metrics of *run_id* as they arrive, also from other processes, until it is over.

        It starts with those that are there. A run whose processes have died (STALE) is over too.
        *interval_seconds* pass between two looks; *sleep* waits. Raises `RunNotFoundError`, and
        `InvalidValueError` for a negative interval.
        """
        if not interval_seconds >= 0:
            raise InvalidValueError(f"interval_seconds is 0 or more, not {interval_seconds!r:.80}.")
        follower = self.follower(run_id)  # raises for an unknown run
        return _followed(follower, interval_seconds, sleep)

    def follower(self, run_id: str) -> Follower:
        """Return a follower that reports on each call which points of a run are new: for event loops."""
        return self._runs.follower(run_id)

    def list_runs(
        self,
        experiment_id: str,
        status: RunStatus | None = None,
        *,
        include_deleted: bool = False,
    ) -> list[Run]:
        """Return the runs of *experiment_id*, oldest first: those of *status* (None: all).

        With *include_deleted* deleted ones are among them.
        """
        text = None if status is None else f"status = '{check_status(status)}'"
        query = Query(text, include_deleted=include_deleted)
        return self._runs.found(experiment_ids(experiment_id), query)

    def list_child_runs(self, run_id: str) -> list[Run]:
        """Return the runs that were started with this one as their parent."""
        home = self._runs.home(run_id)
        return self._runs.found([home], Query(f"parent_run_id = '{run_id}'"))

    def get_metric_history(self, run_id: str, key: str) -> list[Metric]:
        """Return all points of one metric by step, then time."""
        return self._runs.history(run_id, key)

    def search_runs(
        self,
        experiment_id: str | Sequence[str],
        metric_filter: Mapping[str, tuple[str, float]] | None = None,
        filter: str | None = None,  # noqa: A002 - the published name
        order_by: str | Sequence[str] | None = None,
        limit: int | None = None,
        offset: int = 0,
        *,
        include_deleted: bool = False,
    ) -> list[Run]:
        """Return the runs for which both filters hold, at most *limit* after the first *offset*.

        *experiment_id* is one or several. *metric_filter* is ``{"auc": (">", 0.9)}``; *filter* is in the language of
        `ops.registry.search.filters`; *order_by* is a field and ASC or DESC, or several in a list or a text with
        commas; runs without it come last. Deleted runs are found with *include_deleted*, or by a filter that
        names ``deleted_at``.
        """
        query = Query(
            filter, metric_filter, order_by, limit, offset, include_deleted=include_deleted
        )
        return self._runs.found(experiment_ids(experiment_id), query)

    def count_runs(
        self,
        experiment_id: str | Sequence[str],
        metric_filter: Mapping[str, tuple[str, float]] | None = None,
        filter: str | None = None,  # noqa: A002 - as in search_runs
        *,
        include_deleted: bool = False,
    ) -> int:
        """Return how many runs `search_runs` would find without a limit.

        *experiment_id*, *metric_filter*, *filter* and *include_deleted* are those of `search_runs`.
        """
        query = Query(filter, metric_filter, include_deleted=include_deleted)
        return self._runs.count(experiment_ids(experiment_id), query)

    def compare_runs(self, run_ids: Sequence[str]) -> pd.DataFrame:
        """Return a table with one row per run: name, status, duration, params.*, metrics.*."""
        one = isinstance(run_ids, str) or not isinstance(run_ids, Iterable)
        wanted = [run_ids] if one else run_ids
        return to_table([self.get_run(run_id) for run_id in wanted])  # type: ignore[arg-type]  # no id raises


def _followed(
    follower: Follower, interval_seconds: float, sleep: Callable[[float], object]
) -> Iterator[Metric]:
    while True:
        points, over = follower.poll()
        yield from points
        if over:
            return
        if not (follower.is_behind or follower.is_ending):
            sleep(interval_seconds)
