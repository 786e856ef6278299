"""The end-to-end demo: all nine libraries on real data, leaving something to look at.

A small hyper-parameter search whose parts run in several processes. Everything it makes lies in one
folder that a later run continues; an interruption at any time leaves that folder usable.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shlex
import sys
import webbrowser
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from time import perf_counter
from typing import TYPE_CHECKING

from ops.cache import configure
from ops.datalog import DataLogger
from ops.foundation import atomic_write, calculate_file_hash, format_bytes, format_duration
from ops.foundation.errors import OpsError
from ops.foundation.helpers import LazyImport
from ops.observe import (
    ComponentHealthCheck,
    DiskHealthCheck,
    HealthMonitor,
    MemoryHealthCheck,
    ResourceMonitor,
)
from ops.registry import write_page
from ops.serialize import SerializeError, deserialize_data, load
from ops_suite.demo import data
from ops_suite.demo.activity import Activity
from ops_suite.demo.console import Console
from ops_suite.demo.models import open_store
from ops_suite.demo.source import fetch
from ops_suite.demo.trials import draw, prepare_worker, run_trial
from ops_suite.kills.killer import run_kills

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from ops.registry import MLOpsContext
    from ops_suite.demo.data import SharedData
    from ops_suite.demo.models import Store
    from ops_suite.demo.source import Fetched
    from ops_suite.demo.trials import TrialResult

__all__ = ["run"]

_FEATURES = 40


def run(
    folder: Path,
    *,
    trials: int = 12,
    workers: int = 2,
    kill_seconds: float = 0,
    show: bool = False,
) -> int:
    """Run the demo into *folder*; return an exit code: 0, 1 for a failure, 130 when interrupted.

    The first of *trials*, of which there must be two or more, is meant to be poor. With *kill_seconds*
    writers are killed for so long instead, and 1 is returned when anything that they wrote was lost.
    With *show* the store is shown in the browser afterwards, until Ctrl-C.
    """
    folder = folder.absolute()
    console = Console()
    try:
        LazyImport("sklearn", extra="ops-suite[demo]").import_module()
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(f"the folder {str(folder)!r} may not be written to")
        if kill_seconds:
            outcomes = run_kills(folder, console, seconds=kill_seconds)
            return int(any(outcome.lost for outcome in outcomes))
        (folder / "models").mkdir(exist_ok=True)
        _demonstrate(folder, console, trials=trials, workers=workers, show=show)
    except BrokenPipeError:
        raise  # the reader has left, as `| head` does: no failure of the demo
    except (KeyboardInterrupt, BrokenProcessPool, OpsError, OSError) as error:
        if _was_interrupted(error):
            console.error(f"interrupted; what is in {folder} is whole, run again to continue")
            return 130
        is_pool = isinstance(error, BrokenProcessPool)
        killed = "a worker process was killed, perhaps for want of memory; run again"
        console.error(killed if is_pool else str(error))
        return 1
    return 0


def _was_interrupted(error: BaseException | None) -> bool:
    """Whether *error* is an interrupt, or came up while one was handled: Ctrl-C goes to all processes."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def _demonstrate(folder: Path, console: Console, *, trials: int, workers: int, show: bool) -> None:
    store, activity = open_store(folder), Activity(folder)
    events: Counter[str] = Counter()
    store.emitter.subscribe("*", lambda event: events.update([str(event.event_type)]))
    with ResourceMonitor(interval=0.5) as resources:
        fetched = _fetch(folder, console)
        features, labels = _features(folder, console, fetched)
        with data.share(folder, features, labels) as shared:
            size = shared.features[:].nbytes
            console.chapter("ops-shm", "features, labels and split lie in shared memory")
            console.fact(f"{format_bytes(size)}, read in place by {workers} worker processes")
            results = _search(folder, console, store, shared, activity, trials, workers)
        _tamper(console, results)
        _register(console, store, results)
        _observe(folder, console, store, events, resources)
    _report(folder, console, store, activity)
    _summarize(folder, console, store)
    if show:
        show_store(store.context, console)
    store.context.cleanup()


def _fetch(folder: Path, console: Console) -> Fetched:
    console.chapter("ops-resilience", "the data, from a service that is busy and hangs up")
    fetched = fetch(folder)
    console.fact(f"answers: {', '.join(fetched.answers)}")
    size = format_bytes(fetched.file.stat().st_size)
    console.fact(f"{fetched.file.name}: {size}, its SHA-256 is right")
    return fetched


def _features(folder: Path, console: Console, fetched: Fetched) -> tuple[np.ndarray, np.ndarray]:
    samples, labels = fetched.samples, fetched.labels
    console.chapter("ops-cache", f"features of {len(samples)} samples, computed once")
    configure(data_folder=folder)
    arguments = {"samples": samples, "labels": labels, "keep": _FEATURES}
    hit = data.select_features.load(arguments) is not None
    start = perf_counter()
    features = data.select_features(samples, labels, _FEATURES)
    verb = "found in the cache" if hit else "computed and kept"
    console.fact(
        f"{features.shape[1]} features {verb} in {format_duration(perf_counter() - start)}"
    )
    return features, labels


def _search(
    folder: Path,
    console: Console,
    store: Store,
    shared: SharedData,
    activity: Activity,
    trials: int,
    workers: int,
) -> list[TrialResult]:
    tracker = store.context.experiment_tracker
    experiment = tracker.get_or_create_experiment("tuning", "SGD on breast-cancer features")
    console.chapter("ops-registry", f"{trials} trials, each a run that its worker tracks itself")
    results = []
    with DataLogger(folder, "samples", exist_ok=True, layout="segments") as logger:
        pool = ProcessPoolExecutor(
            workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=prepare_worker,
            initargs=(shared, logger.input_queue, folder, experiment.experiment_id),
        )
        try:
            jobs = [pool.submit(run_trial, n, drawn) for n, drawn in enumerate(draw(trials))]
            for job in as_completed(jobs):
                results.append(job.result())
                activity.add(results[-1])
                console.progress(len(results), trials, "trials")
        finally:
            # Trials that have begun end as runs of their own; those that have not are dropped.
            pool.shutdown(wait=True, cancel_futures=True)
    found = tracker.search_runs(
        experiment.experiment_id, filter="metrics.accuracy > 0.9", order_by="metrics.accuracy DESC"
    )
    console.fact(f"{len(found)} runs of this and earlier demos have an accuracy above 0.9")
    log = logger.read().verify()
    console.chapter("ops-datalog", "each epoch was logged by the worker as it happened")
    state = "none damaged" if log.is_whole else f"damaged: {log.damaged}, gaps: {log.gaps}"
    console.fact(f"{log.messages} samples of {len(log.sources)} trials, {state}")
    return results


def _tamper(console: Console, results: list[TrialResult]) -> None:
    console.chapter(
        "ops-serialize", "a model is a pickle, loaded only where its signature is right"
    )
    path = results[0].model
    load(path, trust="user")
    console.fact(f"{path.name}: {format_bytes(path.stat().st_size)}, signed by you")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    try:
        deserialize_data(bytes(content), trust="user")
    except SerializeError as error:
        console.fact(f"with one bit changed, nothing is run: {type(error).__name__}")
    else:
        raise OpsError("A model file that was changed was loaded.")


def _register(console: Console, store: Store, results: list[TrialResult]) -> None:
    console.chapter("ops-registry", "the best model is registered and promoted, a weak one refused")
    best = max(results, key=lambda result: result.accuracy)
    worst = min(results, key=lambda result: result.accuracy)
    try:
        store.register(worst)
    except ValueError as error:
        console.fact(f"trial {worst.number} was refused by a hook: {error}")
    try:
        version = store.promote(store.register(best))
    except ValueError as error:
        console.fact(f"trial {best.number}, the best, was refused too: {error}")
        return
    console.fact(
        f"trial {best.number} is {version.name} version {version.version}, {version.stage}, "
        f"accuracy {best.accuracy:.3f}"
    )


def _observe(
    folder: Path, console: Console, store: Store, events: Counter[str], resources: ResourceMonitor
) -> None:
    console.chapter("ops-observe", "events, audit, health and resources")
    console.fact(", ".join(f"{n} {kind}" for kind, n in sorted(events.items())))
    console.fact(f"audit log of {store.audit.verify()} entries, its chain unbroken")
    monitor = HealthMonitor()
    monitor.register(ComponentHealthCheck("registry", store.context.model_registry))
    monitor.register(MemoryHealthCheck("memory", warning_threshold=0.9))
    monitor.register(
        DiskHealthCheck("disk", folder, warning_threshold=0.95, critical_threshold=0.99)
    )
    for check in monitor.check_all().checks:
        console.fact(f"{check.name}: {check.status} {check.message}".rstrip())
    stats = resources.get_stats()
    peak, cpu = stats["memory_peak_bytes"], stats["cpu_average_percent"]
    console.fact(f"this process: {format_bytes(peak)} at most, {cpu:.0f} % of one CPU")


def _report(folder: Path, console: Console, store: Store, activity: Activity) -> None:
    console.chapter("ops-metrics-collect", "the activity: collected, packed, shipped, rolled up")
    reported = activity.report()
    tarballs = f"{reported.tarballs} tarball{'s' * (reported.tarballs != 1)}"
    console.fact(
        f"{reported.rows} rows in {tarballs}, {reported.counted} counted: "
        f"{'each once' if reported.rows == reported.counted else 'NOT each once'}"
    )
    store.context.compact()
    write_page(store.context, folder / "index.html")
    console.chapter("ops-foundation", "a manifest of what was made, replaced in one step")
    made = [folder / name for name in ("index.html", "report.xlsx", "samples.opsf")]
    made += sorted((folder / "models").glob("*.opsf"))
    entries = {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": calculate_file_hash(path),
        }
        for path in made
    }
    with atomic_write(folder / "manifest.json") as file:
        json.dump(entries, file, indent=1)
    console.fact(f"manifest.json: {len(entries)} files with their SHA-256")


def _summarize(folder: Path, console: Console, store: Store) -> None:
    console.chapter("ops-suite", "everything lies in")
    console.line(str(folder))
    console.fact("index.html      runs, curves and models, for a browser")
    console.line((folder / "index.html").as_uri())
    console.fact("report.xlsx     the report, for a spreadsheet program")
    # To be pasted as they stand: with the Python that has the libraries, which need not be active.
    for what, verb in (("runs, in the terminal", "runs"), ("runs, charts, models and audit", "ui")):
        console.fact(f"store/          {what}:")
        look = [sys.executable, "-m", "ops.registry", verb, "--path", str(store.context.path)]
        console.line(shlex.join(look))
    console.fact(f"done in {console.elapsed()}; run it again to see the cache hit")


def show_store(context: MLOpsContext, console: Console) -> None:
    """Serve the web UI of the store on a free port of loopback and open it, until Ctrl-C."""
    from ops.registry.ui.server import serve

    def ready(address: str) -> None:
        console.fact(f"the store is shown at {address} until Ctrl-C")
        webbrowser.open(address)

    serve(context, port=0, ready=ready)
