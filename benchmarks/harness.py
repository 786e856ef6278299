"""A small harness: contenders run interleaved in one process, and what counts is their ratio.

Absolute times of a shared machine drift by tens of percent within a minute; the ratio of two
contenders that take turns does not. So every round runs each contender once, in an order that
rotates, the ratio is taken per round, and its median is reported with the 10th and 90th percentile.
Each contender is called once before anything is timed, so that what only the first call pays (imports,
a cache miss, a cold file) neither counts nor decides how many calls a round times.

A target is judged only where the measurement can: a ratio when its spread is narrower than what is
claimed, or lies on one side of it; an absolute limit only while no other process keeps the machine
busy. What is not judged has the reason. The load is recorded with each case.

A benchmark file is a module `benchmarks/<package>/<topic>.py` with a function `cases()` that yields
`Case` objects (a generator may set up before and clean up after each `yield`). One that measures how a
cost grows also has `SIZES`, the sizes by what they count, smallest first; its `cases(sizes)` takes such
a mapping, and a quick run passes the two smallest of each. Cases of one name and different sizes are a curve.
Run with `python -m benchmarks [package | package/topic ...] [--quick]`.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import gc
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Any

RESULTS = pathlib.Path(__file__).parent / "results"
#: Cores that other work may keep busy on a machine that is called idle.
IDLE = 0.3


class Measure(StrEnum):
    """What a contender's figure is; lower is better for all of them."""

    WALL = "seconds of wall time per call"
    CPU = "seconds of CPU time of this process per call"
    RETURNED = "the figure that the call returns"


class Growth(StrEnum):
    """What a figure should do as the size grows: stay as it is, or grow with it in proportion."""

    FLAT = "flat"
    LINEAR = "linear"


@dataclasses.dataclass(frozen=True)
class Target:
    """A bound: how many times better than *peer* ours must be, or an absolute limit for ours."""

    peer: str | None = None
    at_least: float | None = None
    at_most: float | None = None


@dataclasses.dataclass(frozen=True)
class Case:
    """One comparison. The first of *contenders* is ours.

    *number* calls are timed together (None: as many as fill about 20 ms); *divide* is how many
    operations one call performs, so that figures are per operation. *warm* calls each contender once
    before; False where the first call is what is measured, or where a call cannot be repeated.

    A case of a curve has *size*, how many *unit* ("entries", "rows") there are while it is measured, and
    *growth*, what its figure should do as they become more. *figure_unit* is what a returned figure is in
    ("MB"); a curve needs it for its axis.
    """

    name: str
    contenders: Mapping[str, Callable[[], Any]]
    targets: tuple[Target, ...] = ()
    measure: Measure = Measure.WALL
    number: int | None = None
    rounds: int = 15
    divide: int = 1
    warm: bool = True
    packages: tuple[str, ...] = ()
    size: int | None = None
    unit: str = ""
    growth: Growth | None = None
    figure_unit: str = ""

    def __post_init__(self) -> None:
        if self.measure is not Measure.RETURNED:
            if self.figure_unit not in {"", "seconds"}:
                raise ValueError(f"{self.name}: a time is in seconds, not in {self.figure_unit}")
            object.__setattr__(self, "figure_unit", "seconds")
        if self.size is None:
            if self.unit or self.growth is not None:
                raise ValueError(f"{self.name}: a unit or a growth needs a size")
            return
        if self.size < 1:
            raise ValueError(f"{self.name}: size is {self.size}; it counts from 1")
        for field in ("unit", "growth", "figure_unit"):
            if not getattr(self, field):
                raise ValueError(f"{self.name}: a case with a size needs its {field}")

    @property
    def title(self) -> str:
        """The name, with the size where there is one: `get, 1 000 entries`."""
        if self.size is None:
            return self.name
        return f"{self.name}, {f'{self.size:,}'.replace(',', ' ')} {self.unit}"


def decades(first: int, last: int) -> tuple[int, ...]:
    """Return the powers of ten from *first* to *last*, which are powers of ten themselves."""
    sizes = [first]
    while sizes[-1] < last:
        sizes.append(sizes[-1] * 10)
    return tuple(sizes)


def cases_of(module: Any, *, quick: bool = False) -> Iterable[Case]:
    """Return the cases of a benchmark file; *quick* leaves of its `SIZES` the two smallest of each."""
    sizes = getattr(module, "SIZES", None)
    if sizes is None:
        return module.cases()
    return module.cases({name: some[:2] if quick else some for name, some in sizes.items()})


def run(package: str, topic: str, cases: Iterable[Case], *, quick: bool = False) -> bool:
    """Run all *cases*, print them, write `results/<package>-<topic>.json`; False if one is missed.

    *quick* runs three rounds to see that everything works; it judges and writes nothing.
    """
    rows = []
    missed = 0
    for case in cases:
        row = _run_case(case, quick=quick)
        rows.append(row)
        missed += sum(t["met"] is False for t in row["targets"])
        _print(row)
    report = {
        "package": package,
        "topic": topic,
        "when": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "python": platform.python_version(),
        "cases": rows,
    }
    if not quick:
        RESULTS.mkdir(exist_ok=True)
        target = RESULTS / f"{package}-{topic}.json"
        target.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return not missed


def _run_case(case: Case, *, quick: bool) -> dict[str, Any]:
    rounds = 3 if quick else case.rounds
    names = list(case.contenders)
    load = busy_cores()
    if case.warm and case.measure is not Measure.RETURNED:
        for call in case.contenders.values():
            call()
    if case.measure is Measure.RETURNED:
        numbers = dict.fromkeys(names, 1)
    else:
        numbers = {n: case.number or _calibrate(f) for n, f in case.contenders.items()}
    figures: dict[str, list[float]] = {n: [] for n in names}
    for i in range(rounds):
        turn = i % len(names)
        for name in names[turn:] + names[:turn]:
            figure = _measure(case.contenders[name], numbers[name], case.measure)
            figures[name].append(figure / case.divide)
    ours = names[0]
    ratios = {
        peer: _spread(
            [p / max(o, 1e-12) for p, o in zip(figures[peer], figures[ours], strict=True)]
        )
        for peer in names[1:]
    }
    medians = {n: statistics.median(v) for n, v in figures.items()}
    load = max(load, busy_cores())
    return {
        "name": case.title,
        "operation": case.name,
        "size": case.size,
        "unit": case.unit,
        "growth": case.growth,
        "figure_unit": case.figure_unit,
        "measure": case.measure.value,
        "rounds": rounds,
        "calls": numbers,
        "busy_cores": round(load, 2),
        "median": medians,
        "ratio": ratios,
        "versions": {p: importlib.metadata.version(p) for p in case.packages},
        "targets": [
            {**dataclasses.asdict(t), **judge(t, ratios, medians[ours], load=load, quick=quick)}
            for t in case.targets
        ],
    }


def busy_cores(seconds: float = 0.2) -> float:
    """Return how many cores other work keeps busy while this process sleeps for *seconds*."""
    before = _busy_seconds()
    time.sleep(seconds)
    return (_busy_seconds() - before) / seconds


def _busy_seconds() -> float:
    """Return the CPU time that the machine has spent on anything (proc(5): user to steal, but idle)."""
    with open("/proc/stat", encoding="ascii") as file:
        ticks = [int(field) for field in file.readline().split()[1:9]]
    idle = ticks[3] + ticks[4]
    return (sum(ticks) - idle) / os.sysconf("SC_CLK_TCK")


def _calibrate(call: Callable[[], Any]) -> int:
    """Return how many calls take about 20 ms; *call* is warm."""
    number = 1
    while True:
        elapsed = min(_elapsed(call, number) for _ in range(2))  # an interruption hits one of them
        if elapsed > 0.02:
            return number
        number = max(number * 2, int(number * 0.02 / max(elapsed, 1e-7)))


def _elapsed(call: Callable[[], Any], number: int) -> float:
    start = time.perf_counter()
    for _ in range(number):
        call()
    return time.perf_counter() - start


def _measure(call: Callable[[], Any], number: int, measure: Measure) -> float:
    if measure is Measure.RETURNED:
        return float(call())
    clock = time.perf_counter if measure is Measure.WALL else time.process_time
    loop = range(number)
    gc.collect()
    gc.disable()
    try:
        start = clock()
        for _ in loop:
            call()
        return (clock() - start) / number
    finally:
        gc.enable()


def _spread(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    last = len(ordered) - 1
    return {
        "median": statistics.median(ordered),
        "p10": ordered[round(last * 0.1)],
        "p90": ordered[round(last * 0.9)],
    }


def judge(
    target: Target,
    ratios: Mapping[str, Mapping[str, float]],
    ours: float,
    *,
    load: float,
    quick: bool = False,
) -> dict[str, Any]:
    """Return whether *target* is met, None when that cannot be judged, and why not.

    *ratios* are spreads by peer, *ours* is our own figure, *load* is in busy cores.
    """
    if quick:
        return {"met": None, "why": "three rounds judge nothing"}
    met = True
    if target.at_least is not None:
        peers = [target.peer] if target.peer else list(ratios)
        for peer in (p for p in peers if p in ratios):
            if _is_too_wide(ratios[peer], target.at_least):
                spread = f"{ratios[peer]['p10']:.2f} .. {ratios[peer]['p90']:.2f}"
                why = f"the spread to {peer}, {spread}, is wider than the claim"
                return {"met": None, "why": why}
            met &= ratios[peer]["median"] >= target.at_least
    if target.at_most is not None:
        if load > IDLE:
            return {"met": None, "why": f"other work keeps {load:.1f} cores busy"}
        met &= ours <= target.at_most
    return {"met": met, "why": ""}


def _is_too_wide(ratio: Mapping[str, float], claim: float) -> bool:
    low, high = ratio["p10"], ratio["p90"]
    return low < claim <= high and high > max(claim, 1 / claim) * low


def _print(row: Mapping[str, Any]) -> None:
    print(f"\n{row['name']}  ({row['measure']})")
    for name, figure in row["median"].items():
        ratio = row["ratio"].get(name)
        note = (
            f"  ours is {ratio['median']:.2f}x better  [{ratio['p10']:.2f} .. {ratio['p90']:.2f}]"
            if ratio
            else "  (ours)"
        )
        print(f"  {name:<28} {figure:12.4g}{note}  ({row['calls'][name]} calls a round)")
    for target in row["targets"]:
        bound = (
            f">= {target['at_least']}x {target['peer'] or 'every peer'}"
            if target["at_least"] is not None
            else f"<= {target['at_most']}"
        )
        verdict = {True: "met", False: "MISSED", None: f"not judged: {target['why']}"}
        print(f"  target {bound}: {verdict[target['met']]}")
