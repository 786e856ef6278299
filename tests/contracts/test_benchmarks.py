"""The harness of the benchmarks times warm calls, and judges only what it can."""

from __future__ import annotations

import json
import types
from collections.abc import Callable

import pytest
from benchmarks import harness
from benchmarks.harness import Case, Growth, Measure, Target, judge

RATIO = {"peer": {"median": 2.0, "p10": 1.9, "p90": 2.1}}
IDLE, BUSY = 0.0, 1.5


@pytest.fixture
def contender(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Callable[[], None]]:
    """Makes calls that take a time on a clock that only they advance."""
    now = [0.0]
    monkeypatch.setattr(harness.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(harness, "busy_cores", lambda: IDLE)

    def make(seconds: float, first: float) -> Callable[[], None]:
        costs = iter([first])

        def call() -> None:
            now[0] += next(costs, seconds)

        return call

    return make


def test_a_slow_first_call_neither_counts_nor_decides_how_many_are_timed(contender) -> None:
    case = Case("hit", {"ops": contender(1e-5, first=3.0), "peer": contender(2e-5, first=1e-5)})
    row = harness._run_case(case, quick=False)
    assert row["median"]["ops"] == pytest.approx(1e-5)
    assert row["ratio"]["peer"]["median"] == pytest.approx(2.0)
    assert min(row["calls"].values()) >= 1000


def test_a_case_that_measures_first_calls_is_not_warmed(contender) -> None:
    case = Case("cold", {"ops": contender(1.0, first=9.0)}, number=1, rounds=1, warm=False)
    assert harness._run_case(case, quick=False)["median"]["ops"] == pytest.approx(9.0)


def test_what_a_round_timed_is_printed(contender, capsys) -> None:
    case = Case("hit", {"ops": contender(1e-3, first=1e-3)}, number=7)
    assert harness.run("cache", "none", [case], quick=True)
    assert "(7 calls a round)" in capsys.readouterr().out


@pytest.mark.parametrize(("claim", "met"), [(1.5, True), (2.5, False)])
def test_a_ratio_is_judged_by_its_median(claim: float, met: bool) -> None:
    assert judge(Target("peer", at_least=claim), RATIO, 1.0, load=BUSY)["met"] is met


def test_a_spread_wider_than_the_claim_is_not_judged() -> None:
    wide = {"peer": {"median": 1.6, "p10": 0.9, "p90": 2.4}}
    verdict = judge(Target("peer", at_least=1.5), wide, 1.0, load=IDLE)
    assert verdict["met"] is None
    assert "0.90 .. 2.40, is wider than the claim" in verdict["why"]


def test_a_wide_spread_on_one_side_of_the_claim_is_judged() -> None:
    wide = {"peer": {"median": 9.0, "p10": 4.0, "p90": 20.0}}
    assert judge(Target("peer", at_least=1.5), wide, 1.0, load=IDLE)["met"] is True


def test_an_absolute_limit_is_judged_on_an_idle_machine_only() -> None:
    limit = Target(at_most=0.5)
    assert judge(limit, {}, 1.0, load=IDLE)["met"] is False
    assert judge(limit, {}, 1.0, load=BUSY) == {
        "met": None,
        "why": "other work keeps 1.5 cores busy",
    }


def test_a_quick_run_judges_nothing() -> None:
    assert judge(Target("peer", at_least=99), RATIO, 1.0, load=IDLE, quick=True)["met"] is None


def curve(**changes) -> Case:
    fields = {"size": 10_000, "unit": "entries", "growth": Growth.FLAT} | changes
    return Case("get", {"ops": lambda: 7.0}, number=1, rounds=1, **fields)


def test_the_result_of_a_curve_has_its_operation_size_and_growth(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(harness, "busy_cores", lambda: IDLE)
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    assert harness.run("cache", "growth", [curve()])
    (row,) = json.loads((tmp_path / "cache-growth.json").read_text(encoding="utf-8"))["cases"]
    assert row["name"] == "get, 10 000 entries"
    kept = {name: row[name] for name in ("operation", "size", "unit", "growth", "figure_unit")}
    assert kept == {
        "operation": "get",
        "size": 10_000,
        "unit": "entries",
        "growth": "flat",
        "figure_unit": "seconds",
    }


def test_a_case_without_a_size_is_no_curve(monkeypatch) -> None:
    monkeypatch.setattr(harness, "busy_cores", lambda: IDLE)
    row = harness._run_case(Case("get", {"ops": lambda: None}, number=1, rounds=1), quick=True)
    assert (row["name"], row["size"], row["unit"], row["growth"]) == ("get", None, "", None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 0}, "size is 0"),
        ({"unit": ""}, "needs its unit"),
        ({"growth": None}, "needs its growth"),
        ({"measure": Measure.RETURNED}, "needs its figure_unit"),
        ({"figure_unit": "MB"}, "a time is in seconds, not in MB"),
        ({"size": None}, "needs a size"),
        ({"size": None, "unit": ""}, "needs a size"),
    ],
)
def test_a_curve_that_could_not_be_drawn_is_refused(changes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        curve(**changes)


def test_a_quick_run_takes_the_two_smallest_sizes() -> None:
    module = types.SimpleNamespace(
        SIZES={"entries": harness.decades(10, 10_000), "processes": (1, 2, 4)},
        cases=lambda sizes: [curve(size=size) for some in sizes.values() for size in some],
    )
    assert [case.size for case in harness.cases_of(module, quick=True)] == [10, 100, 1, 2]
    assert [case.size for case in harness.cases_of(module)] == [10, 100, 1000, 10_000, 1, 2, 4]


def test_a_benchmark_without_sizes_gives_its_cases_to_a_quick_run_too() -> None:
    module = types.SimpleNamespace(cases=lambda: [curve()])
    assert len(harness.cases_of(module, quick=True)) == 1
