# mypy: disable-error-code="no-untyped-call"
# (MLflow's search utilities are not annotated)
"""MLflow's searches of runs: its own grammar, its own order, its own pages.

What MLflow's parser makes of a filter is translated, as far as it can be, into a question to the
columns of the index; it leaves out rows that cannot be meant, and never others. The columns give the
order too, so rows are read in the order of the answer, MLflow's own code decides about each, and
reading stops when the page is full. Rows that are not in the table yet are merged in.
No lock is held meanwhile.
"""

from __future__ import annotations

import functools
import heapq
import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

from mlflow.entities import LifecycleStage, _DatasetSummary
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_PARENT_RUN_ID
from mlflow.utils.search_utils import SearchUtils

from ops.registry.mlflow.bounded_search import RunSearch
from ops.registry.mlflow.entities import Seen, to_run
from ops.registry.mlflow.experiment_calls import check_max_results, start_of
from ops.registry.mlflow.order_by import parse_order
from ops.registry.mlflow.run_calls import RunCalls
from ops.registry.search.filters import Both, Kind, Test, as_text, comparison, holds
from ops.registry.search.query import lookup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from mlflow.entities import Run

    from ops.registry.local.index.view import Snapshot
    from ops.registry.mlflow.order_by import RunOrder
    from ops.registry.records import Experiment
    from ops.registry.run_rows import RunRow
    from ops.registry.search.filters import Node

__all__ = ["RunSearching", "to_node"]

_SIGNS = {"=", "!=", "<", "<=", ">", ">="}
_GROUPS = {"parameter": "params", "tag": "tags"}
_MOST_DATASETS = 1000
#: So many rows are read at once.
_ROWS = 128
#: Before all times, in nanoseconds.
_NEVER = -(2**62)


class RunSearching(RunCalls):
    """Finds runs, and the datasets that runs use."""

    def _search_runs(
        self,
        experiment_ids: list[str],
        filter_string: str | None,
        run_view_type: int,
        max_results: int | None,
        order_by: list[str] | None,
        page_token: str | None,
    ) -> tuple[list[Run], Any]:
        check_max_results(max_results, optional=True)
        requested = _Search(
            _parsed(filter_string or ""),
            tuple(LifecycleStage.view_type_to_stages(run_view_type)),
            parse_order(order_by),
        )
        start = start_of(page_token)
        end = None if max_results is None else start + max_results
        known = sorted(self.book.known(experiment_ids), key=lambda e: e.experiment_id)
        parts = [
            _Part(requested, one, self.book.snapshot(one.experiment_id), self) for one in known
        ]
        passed = parts[0].passed(start) if len(parts) == 1 else 0
        # One more shows whether there is another page.
        most = None if end is None else end - passed + 1
        streams = [stream for part in parts for stream in part.streams(passed, most)]
        found = heapq.merge(*streams, key=requested.order.key)
        page = list(itertools.islice(found, start - passed, most))
        more = end is not None and len(page) > end - start
        runs = [to_run(one) for one in page[: end - start if end is not None else None]]
        return runs, SearchUtils.create_page_token(end) if more else None

    def _all_of(self, experiment: Experiment, view_type: int) -> list[Seen]:
        """Return all runs of an experiment in these stages of life."""
        requested = _Search(
            (), tuple(LifecycleStage.view_type_to_stages(view_type)), parse_order(None)
        )
        snapshot = self.book.snapshot(experiment.experiment_id)
        part = _Part(requested, experiment, snapshot, self)
        return list(itertools.chain(*part.streams(0, None)))

    def _search_datasets(self, experiment_ids: list[str]) -> list[_DatasetSummary]:
        found: dict[tuple[str, str, str, str | None], None] = {}
        for experiment in self.book.known(experiment_ids):
            home = experiment.experiment_id
            found |= dict.fromkeys((home, *one) for one in _datasets(self.book.snapshot(home)))
        return [_DatasetSummary(*key) for key in list(found)[:_MOST_DATASETS]]


class _Search(NamedTuple):
    """A search: MLflow's comparisons, which must all hold, the stages of life, and the order."""

    comparisons: Sequence[Mapping[str, Any]]
    stages: tuple[str, ...]
    order: RunOrder

    def accepts(self, seen: Seen) -> bool:
        """Whether a run is meant, by MLflow's own code."""
        return seen.lifecycle_stage in self.stages and all(
            # `SearchUtils.filter` would parse the text for each part of the rows again.
            RunSearch._does_run_match_clause(seen, one)  # noqa: SLF001
            for one in self.comparisons
        )


class _Part:
    """What a search finds in one experiment."""

    def __init__(
        self, requested: _Search, experiment: Experiment, snapshot: Snapshot, store: RunSearching
    ) -> None:
        self._search = requested
        self._snapshot = snapshot
        self._seen = functools.partial(Seen, experiment=experiment, artifacts=store.book.artifacts)
        tests, self._is_exact = _tests(requested.comparisons)
        if experiment.deleted_at is None and len(requested.stages) == 1:
            tests.append(_of_stage(requested.stages[0]))
        self._node = Both(tuple(tests)) if tests else None

    def passed(self, start: int) -> int:
        """Return how many rows of the table are before the position *start* in any case."""
        if not self._is_exact:
            return 0
        return max(0, start - len(self._snapshot.settled) - len(self._snapshot.live))

    def streams(self, passed: int, most: int | None) -> Iterator[Iterable[Seen]]:
        """Give the runs that are meant, each stream in order, if all are needed *most* of them.

        Of the table *passed* rows are left out.
        """
        rows = self._snapshot.overlay().values()
        base = self._snapshot.base
        positions = None if base is None else self._search.order.positions(base)
        if base is not None and positions is None:  # the columns do not give the order
            everything = base.positions(self._node, (), None, self._snapshot.hidden)
            yield self._ordered(base.rows(everything))[passed:]
        elif base is not None:
            enough = passed + most if self._is_exact and most is not None else None
            among = base.among(positions, self._node, enough, self._snapshot.hidden)
            yield self._accepted(_read(base.rows, among[passed:], most))
        node = self._node
        yield self._ordered(row for row in rows if node is None or holds(node, lookup(row)))

    def _ordered(self, rows: Iterable[RunRow]) -> list[Seen]:
        return sorted(self._accepted(rows), key=self._search.order.key)

    def _accepted(self, rows: Iterable[RunRow]) -> Iterator[Seen]:
        return filter(self._search.accepts, map(self._seen, rows))


def _datasets(snapshot: Snapshot) -> Iterator[tuple[str, str, str | None]]:
    """Give name, digest and context of what the runs of an experiment use."""
    rows = snapshot.overlay()
    for row in rows.values():
        yield from _used(row)
    base = snapshot.base
    if base is not None:
        # Most runs use none: only those whose JSON has the word are looked at, once.
        with_some = base.kept("datasets", lambda: [r for r in base.with_key("datasets") if r])
        for row in with_some:
            if row.run_id not in rows and row.run_id not in snapshot.gone:
                yield from _used(row)


def _used(row: RunRow) -> Iterator[tuple[str, str, str | None]]:
    for one in row.extra.get("datasets", []):
        yield one["name"], one["digest"], one["tags"].get(MLFLOW_DATASET_CONTEXT)


def _read(
    rows: Callable[[Sequence[int]], list[RunRow]], positions: Sequence[int], most: int | None
) -> Iterator[RunRow]:
    size = _ROWS if most is None else min(most, _ROWS)
    for start in range(0, len(positions), size):
        yield from rows(positions[start : start + size])


@functools.lru_cache(maxsize=256)
def _parsed(filter_string: str) -> tuple[Mapping[str, Any], ...]:
    return tuple(RunSearch.parse_search_filter(filter_string))


def to_node(parsed: Iterable[Mapping[str, Any]]) -> Node | None:
    """Return a question that is true of every row for which MLflow's comparisons all hold."""
    tests, _ = _tests(parsed)
    return Both(tuple(tests)) if tests else None


def _tests(parsed: Iterable[Mapping[str, Any]]) -> tuple[list[Test], bool]:
    """Return questions to the columns, and whether they say all that MLflow's comparisons say."""
    made = [_test(one) for one in parsed]
    return [test for test, _ in made if test is not None], all(exact for _, exact in made)


def _test(one: Mapping[str, Any]) -> tuple[Test | None, bool]:
    sign = one["comparator"].upper()
    if one["type"] == "metric" and sign in _SIGNS:
        return comparison(f"metrics.{one['key']}", Kind.NUMBER, sign, float(one["value"])), True
    group = _GROUPS.get(one["type"])
    if group is None or one["key"] == MLFLOW_PARENT_RUN_ID:  # a field of its own here
        return None, False
    field = f"{group}.{one['key']}"
    if sign in {"IS NULL", "IS NOT NULL"}:
        absent = sign == "IS NULL"
        return Test(field, Kind.TEXT, lambda _: not absent, if_absent=absent), True
    accepts = _accepts(sign, one["value"])
    if accepts is None:
        return None, False
    return Test(field, Kind.TEXT, accepts), sign in _SIGNS


def _of_stage(stage: str) -> Test:
    if stage == LifecycleStage.ACTIVE:  # no time of deletion
        return Test(
            "deleted_at", Kind.TIME, lambda _: False, if_absent=True, sign="<", bound=_NEVER
        )
    return Test("deleted_at", Kind.TIME, lambda _: True, sign=">=", bound=_NEVER)


def _accepts(sign: str, value: Any) -> Callable[[Any], bool] | None:
    match sign:
        case "=":  # a LIKE too, whose value equals what matches
            return lambda found: as_text(found) == value
        case "!=":
            return lambda found: as_text(found) != value
        case _:
            return None
