# mypy: disable-error-code="no-untyped-call"
# (MLflow's search utilities are not annotated)
"""MLflow's searches of runs: its own grammar, its own order, its own pages.

What MLflow's parser makes of a filter is translated, as far as it can be, into a question to the
columns of the index; it leaves out rows that cannot be meant, and never others. MLflow's own code then
decides about each row that is left, and orders them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from mlflow.entities import LifecycleStage, _DatasetSummary
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_PARENT_RUN_ID
from mlflow.utils.search_utils import SearchUtils

from ops.registry.mlflow.entities import Seen, to_run
from ops.registry.mlflow.experimentcalls import check_max_results
from ops.registry.mlflow.runcalls import RunCalls
from ops.registry.search.filters import Both, Kind, Test, as_text, comparison

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlflow.entities import Run

    from ops.registry.search.filters import Node

__all__ = ["RunSearching", "to_node"]

_SIGNS = {"=", "!=", "<", "<=", ">", ">="}
_GROUPS = {"parameter": "params", "tag": "tags"}
_MOST_DATASETS = 1000


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
        stages = LifecycleStage.view_type_to_stages(run_view_type)
        node = to_node(SearchUtils.parse_search_filter(filter_string))
        with self.book.turn:
            seen = [
                one
                for experiment in self.book.known(experiment_ids)
                for row in self.book.rows(experiment.experiment_id, node)
                if (one := Seen(row, experiment, self.book.artifacts)).lifecycle_stage in stages
            ]
            found = SearchUtils.sort(SearchUtils.filter(seen, filter_string), order_by)
            limit = len(found) + 1 if max_results is None else max_results
            page, token = SearchUtils.paginate(found, page_token, limit)
            return [to_run(one) for one in page], token

    def _search_datasets(self, experiment_ids: list[str]) -> list[_DatasetSummary]:
        found: dict[tuple[str, str, str, str | None], None] = {}
        for experiment in self.book.known(experiment_ids):
            for row in self.book.rows(experiment.experiment_id):
                for one in row.get("extra", {}).get("datasets", []):
                    context = one["tags"].get(MLFLOW_DATASET_CONTEXT)
                    key = (experiment.experiment_id, one["name"], one["digest"], context)
                    found.setdefault(key)
        return [_DatasetSummary(*key) for key in list(found)[:_MOST_DATASETS]]


def to_node(parsed: list[dict[str, Any]]) -> Node | None:
    """Return a question that is true of every row for which MLflow's comparisons all hold."""
    parts = [test for one in parsed if (test := _test(one)) is not None]
    return Both(tuple(parts)) if parts else None


def _test(one: Mapping[str, Any]) -> Test | None:
    sign = one["comparator"].upper()
    if one["type"] == "metric" and sign in _SIGNS:
        return comparison(f"metrics.{one['key']}", Kind.NUMBER, sign, float(one["value"]))
    group = _GROUPS.get(one["type"])
    if group is None or one["key"] == MLFLOW_PARENT_RUN_ID:  # a field of its own here
        return None
    accepts = _accepts(sign, one["value"])
    return None if accepts is None else Test(f"{group}.{one['key']}", Kind.TEXT, accepts)


def _accepts(sign: str, value: Any) -> Callable[[Any], bool] | None:
    match sign:
        case "=":
            return lambda found: as_text(found) == value
        case "!=":
            return lambda found: as_text(found) != value
        case "LIKE" | "ILIKE":
            parts = (".*" if c == "%" else "." if c == "_" else re.escape(c) for c in value)
            flags = re.DOTALL | (re.IGNORECASE if sign == "ILIKE" else 0)
            matches = re.compile("".join(parts), flags).fullmatch
            return lambda found: matches(as_text(found)) is not None
        case _:
            return None
