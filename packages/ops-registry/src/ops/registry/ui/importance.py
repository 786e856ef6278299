"""How much each parameter matters for a metric, by a small random forest, where scikit-learn is installed.

The importance of a parameter is its share of what the splits of all trees take off the variance (mean decrease in impurity,
Breiman 2001). It sees what a correlation cannot (a best value in the middle, parameters that matter together), and it finds
something in noise too: so the share of the variance that the forest explains of runs that a tree was not made of comes with it.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from typing import TYPE_CHECKING, Any

from ops.registry.ui.comparisons import compare

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ops.registry.records import Run

__all__ = ["importance"]

_FEWEST, _TREES = 10, 200


def importance(runs: Sequence[Run], metric: str) -> dict[str, Any]:
    """Return *parameters* (a share by name), *explained* (out of bag, at most 1) and how many *runs*; or a *reason* why not."""
    if importlib.util.find_spec("sklearn") is None:
        return {"reason": "Where scikit-learn is installed, a forest ranks parameters too."}
    known = [run for run in runs if math.isfinite(run.metrics.get(metric, math.nan))]
    if len(known) < _FEWEST:
        return {"reason": f"A forest needs {_FEWEST} runs with a value of this metric."}
    axes = [axis for axis in compare(known).numbers["axes"] if axis["name"].startswith("params.")]
    targets = [run.metrics[metric] for run in known]
    if not axes or len(set(targets)) < 2:
        return {
            "reason": "There is nothing to learn: the parameters or the metric are the same in all runs."
        }
    ensemble = importlib.import_module("sklearn.ensemble")  # used where it is, and never required
    columns = [(axis["name"], column) for axis in axes for column in _columns(axis)]
    forest = ensemble.RandomForestRegressor(_TREES, oob_score=True, random_state=0)
    # Scaled, since squares of huge or tiny values leave the range of floats.
    forest.fit([list(row) for row in zip(*(c for _, c in columns), strict=True)], _scaled(targets))
    shares = dict.fromkeys((axis["name"] for axis in axes), 0.0)
    for (name, _), share in zip(columns, forest.feature_importances_, strict=True):
        shares[name] += float(share)
    return {"parameters": shares, "explained": float(forest.oob_score_), "runs": len(known)}


def _columns(axis: Mapping[str, Any]) -> list[list[float]]:
    """Return a column of numbers, or one for each text; what is missing is a value of its own."""
    values = axis["values"]
    if "texts" in axis:
        return [[float(value == n) for value in values] for n in range(len(axis["texts"]))]
    there = [value for value in values if value is not None]
    ranks = {value: float(n) for n, value in enumerate(sorted(set(there)), 1)}
    return [[ranks.get(value, 0.0) for value in values]]  # trees see the order alone


def _scaled(values: Sequence[float]) -> list[float]:
    largest = max(map(abs, values))
    return [value / largest for value in values]
