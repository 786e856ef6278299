"""Every library measures how its costs grow, over three powers of ten or more, and the programs run."""

from __future__ import annotations

import importlib.util
import pathlib
import types
from collections import defaultdict

import pytest
from benchmarks import harness
from benchmarks.harness import Case

ROOT = pathlib.Path(__file__).parents[2]
#: `scale` of the registry fills databases of a peer that only `nox -s bench` installs.
LIBRARIES = sorted(
    file.name.removeprefix("ops-").replace("-", "_")
    for file in (ROOT / "packages").iterdir()
    if file.name not in {"ops-suite", "ops-registry"}
)
#: What a machine has few of grows by doubling.
DOUBLED = {"processes"}


def growth(library: str) -> types.ModuleType:
    file = ROOT / "benchmarks" / library / "growth.py"
    spec = importlib.util.spec_from_file_location(f"growth_of_{library}", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("library", LIBRARIES)
def test_sizes_span_three_powers_of_ten(library: str) -> None:
    for unit, sizes in growth(library).SIZES.items():
        assert len(sizes) >= 4, unit
        assert list(sizes) == sorted(set(sizes)), unit
        assert sizes[-1] >= sizes[0] * (8 if unit in DOUBLED else 1000), unit


@pytest.mark.parametrize("library", LIBRARIES)
def test_each_operation_is_measured_at_each_size(library: str) -> None:
    module = growth(library)
    smallest = {unit: sizes[:2] for unit, sizes in module.SIZES.items()}
    curves: dict[str, list[Case]] = defaultdict(list)
    for case in module.cases(smallest):
        for call in case.contenders.values():
            call()
        curves[case.name].append(case)
    assert 2 <= len(curves) <= 4
    for cases in curves.values():
        assert len({(case.unit, case.growth, case.figure_unit) for case in cases}) == 1
        assert tuple(case.size for case in cases) == smallest[cases[0].unit]


def test_a_full_run_takes_all_sizes() -> None:
    module = growth("cache")
    module.cases = lambda sizes: list(sizes["entries"])
    assert harness.cases_of(module) == [1_000, 10_000, 100_000, 1_000_000]
