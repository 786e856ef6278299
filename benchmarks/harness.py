"""A small harness: contenders run interleaved in one process, and what counts is their ratio.

Absolute times of a shared machine drift by tens of percent within a minute; the ratio of two
contenders that take turns does not. So every round runs each contender once, in an order that
rotates, the ratio is taken per round, and its median is reported with the 10th and 90th percentile.

A benchmark file is a module `benchmarks/<package>/<topic>.py` with a function `cases()` that yields
`Case` objects (a generator may set up before and clean up after each `yield`).
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


class Measure(StrEnum):
    """What a contender's figure is; lower is better for all of them."""

    WALL = "seconds of wall time per call"
    CPU = "seconds of CPU time of this process per call"
    RETURNED = "the figure that the call returns"


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
    operations one call performs, so that figures are per operation.
    """

    name: str
    contenders: Mapping[str, Callable[[], Any]]
    targets: tuple[Target, ...] = ()
    measure: Measure = Measure.WALL
    number: int | None = None
    rounds: int = 15
    divide: int = 1
    packages: tuple[str, ...] = ()


def run(package: str, topic: str, cases: Iterable[Case], *, quick: bool = False) -> bool:
    """Run all *cases*, print them, write `results/<package>-<topic>.json`; True if targets are met."""
    rows = []
    met = True
    for case in cases:
        row = _run_case(case, quick=quick)
        rows.append(row)
        met &= all(t["met"] for t in row["targets"])
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
    return met


def _run_case(case: Case, *, quick: bool) -> dict[str, Any]:
    rounds = 3 if quick else case.rounds
    names = list(case.contenders)
    numbers = {n: case.number or _calibrate(f) for n, f in case.contenders.items()}
    if case.measure is Measure.RETURNED:
        numbers = dict.fromkeys(names, 1)
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
    return {
        "name": case.name,
        "measure": case.measure.value,
        "rounds": rounds,
        "median": medians,
        "ratio": ratios,
        "versions": {p: importlib.metadata.version(p) for p in case.packages},
        "targets": [_judge(t, ratios, medians[ours]) for t in case.targets],
    }


def _calibrate(call: Callable[[], Any]) -> int:
    number = 1
    while True:
        start = time.perf_counter()
        for _ in range(number):
            call()
        elapsed = time.perf_counter() - start
        if elapsed > 0.02:
            return number
        number = max(number * 2, int(number * 0.02 / max(elapsed, 1e-7)))


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


def _judge(target: Target, ratios: Mapping[str, Any], ours: float) -> dict[str, Any]:
    met = True
    if target.at_least is not None:
        peers = [target.peer] if target.peer else list(ratios)
        met = all(ratios[p]["median"] >= target.at_least for p in peers if p in ratios)
    if target.at_most is not None:
        met &= ours <= target.at_most
    return {**dataclasses.asdict(target), "met": met}


def _print(row: Mapping[str, Any]) -> None:
    print(f"\n{row['name']}  ({row['measure']})")
    for name, figure in row["median"].items():
        ratio = row["ratio"].get(name)
        note = (
            f"  ours is {ratio['median']:.2f}x better  [{ratio['p10']:.2f} .. {ratio['p90']:.2f}]"
            if ratio
            else "  (ours)"
        )
        print(f"  {name:<28} {figure:12.4g}{note}")
    for target in row["targets"]:
        bound = (
            f">= {target['at_least']}x {target['peer'] or 'every peer'}"
            if target["at_least"] is not None
            else f"<= {target['at_most']}"
        )
        print(f"  target {bound}: {'met' if target['met'] else 'MISSED'}")
