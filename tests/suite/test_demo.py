"""The demo runs, a second run finds its features, and Ctrl-C at any time leaves it usable."""

from __future__ import annotations

import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from hashlib import sha256

import pytest

from ops.foundation.errors import OpsError
from ops.observe import AuditLogger
from ops.registry import MLOpsConfig, MLOpsContext, ModelStage, RunStatus
from ops.shm import list_segments
from ops_suite import demo
from ops_suite.demo import data
from ops_suite.kills import killer
from ops_suite.kills.writers import KINDS, array_name

pytest.importorskip("sklearn")
pytestmark = pytest.mark.timeout(1800)
PACKAGES = (
    "ops-foundation", "ops-resilience", "ops-observe", "ops-serialize", "ops-cache", "ops-shm",
    "ops-datalog", "ops-registry", "ops-metrics-collect", "ops-suite",
)  # fmt: skip


def command(folder: pathlib.Path, trials: int) -> list[str]:
    return [
        sys.executable,
        "-m",
        "ops_suite",
        "demo",
        "--directory",
        str(folder),
        f"--trials={trials}",
    ]


def run(folder: pathlib.Path, trials: int = 3, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, trials), capture_output=True, text=True, check=False, env=os.environ | env
    )


def segments(folder: pathlib.Path) -> set[str]:
    """What the demo of *folder* has left in shared memory."""
    mark = data.mark(folder)
    return {info.name for info in list_segments() if mark in info.name}


@pytest.fixture(scope="module")
def twice(tmp_path_factory) -> tuple[pathlib.Path, str, str]:
    """A folder in which the demo ran twice, and what it said."""
    folder = tmp_path_factory.mktemp("demo") / "my results"
    first, second = run(folder), run(folder)
    assert first.returncode == 0, first.stdout + first.stderr
    assert second.returncode == 0, second.stdout + second.stderr
    return folder, first.stdout, second.stdout


def test_every_library_reports_what_it_did(twice) -> None:
    _, printed, _ = twice
    for library in PACKAGES:
        assert f"\n{library} " in printed
    assert "answers: 503 busy, half, then hung up, the rest" in printed
    assert "with one bit changed, nothing is run: CorruptDataError" in printed


def test_what_it_prints_can_be_pasted(twice) -> None:
    folder, printed, _ = twice
    lines = [line.strip() for line in printed.splitlines()]
    assert str(folder) in lines
    assert (folder / "index.html").as_uri() in lines
    (pasted,) = [line for line in lines if " runs --path " in line]
    shown = subprocess.run(pasted, shell=True, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count("COMPLETED") == 6


def test_the_manifest_has_the_digest_of_each_file(twice) -> None:
    folder, _, _ = twice
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert {"index.html", "report.xlsx", "samples.opsf"} < set(manifest)
    for name, entry in manifest.items():
        content = (folder / name).read_bytes()
        assert entry == {"bytes": len(content), "sha256": sha256(content).hexdigest()}


def test_a_narrow_terminal_and_ascii_are_enough(tmp_path) -> None:
    folder = tmp_path / "Ergebnisse für Zoë"
    done = run(folder, COLUMNS="60", PYTHONIOENCODING="ascii", LC_ALL="C")
    assert done.returncode == 0, done.stdout + done.stderr
    assert folder.is_dir()
    prose = [line for line in done.stdout.splitlines() if line.startswith("    ")]
    assert len(prose) > 20
    assert max(map(len, prose)) <= 60
    assert not done.stdout.count("\x1b"), "no colors where nobody looks"


def test_a_reader_that_leaves_is_no_error(tmp_path) -> None:
    shown = shlex.join(command(tmp_path / "results", 2))
    done = subprocess.run(
        ["bash", "-c", f"{shown} | head -2; exit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == 0
    assert done.stdout.count("\n") == 2


def test_the_browser_is_sent_to_the_store_with_its_audit_log(tmp_path) -> None:
    visited, browser = tmp_path / "visited", tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {shlex.quote(str(visited))}\n', encoding="utf-8")
    browser.chmod(0o755)
    process = subprocess.Popen(
        [*command(tmp_path / "results", 2), "--open"],
        env=os.environ | {"BROWSER": f"{browser} %s"},
        stdout=subprocess.PIPE,
        text=True,
    )
    wait_until(process, lambda: visited.is_file() and visited.read_text().endswith("\n"))
    with urllib.request.urlopen(visited.read_text().strip() + "audit") as answer:
        page = answer.read().decode()
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=600)
    assert process.returncode == 0
    assert "model_registered" in page or "register_model" in page
    assert f"the store is shown at {visited.read_text().strip()}" in printed


def test_the_second_run_finds_its_features_in_the_cache(twice) -> None:
    _, first, second = twice
    assert "features computed and kept" in first
    assert "features found in the cache" in second


def test_what_it_leaves_is_there_and_whole(twice) -> None:
    folder, _, second = twice
    assert "180 rows in 2 tarballs, 180 counted: each once" in second
    assert "180 samples of 3 trials, none damaged" in second
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.load_workbook(folder / "report.xlsx")
    counts = [row[2].value for row in book["Activity"].iter_rows(min_row=2)]
    assert sum(c for c in counts if isinstance(c, int)) == 180
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "breast-cancer" in page
    assert "Production" in page
    assert AuditLogger(folder / "store" / "audit.jsonl").verify() == 6
    with MLOpsContext(MLOpsConfig(storage_path=str(folder / "store"))) as context:
        production = context.model_registry.get_model_by_stage(
            "breast-cancer", ModelStage.PRODUCTION
        )
        assert production.version == 2
        (experiment,) = context.experiment_tracker.list_experiments()
        runs = context.experiment_tracker.list_runs(experiment.experiment_id)
    assert [r.status for r in runs] == [RunStatus.COMPLETED] * 6
    assert segments(folder) == set()


def test_a_weak_model_is_refused_by_the_hook(twice) -> None:
    _, first, _ = twice
    assert "trial 0 was refused by a hook: accuracy" in first


@pytest.mark.fault
def test_an_interrupted_demo_leaves_nothing_broken(tmp_path) -> None:
    folder = tmp_path / "results"
    for stage in ("models", "store/*", "cache/*", "models/*.opsf"):
        process = subprocess.Popen(
            command(folder, 40),
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        wait_until(process, lambda stage=stage: any(folder.glob(stage)))
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all processes of the group
        _, err = process.communicate(timeout=600)
        assert process.returncode in {0, 130, -signal.SIGINT}, err.decode()
        assert segments(folder) == set()
    result = run(folder)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "each once" in result.stdout
    assert "NOT" not in result.stdout


@pytest.mark.parametrize("failure", [OpsError("the saver is gone"), BrokenProcessPool("a worker")])
def test_what_fails_after_an_interrupt_is_the_interrupt(tmp_path, monkeypatch, failure) -> None:
    def interrupted(*_: object, **__: object) -> None:
        try:
            raise KeyboardInterrupt
        finally:
            raise failure  # as a `with` block does whose process had the same signal

    monkeypatch.setattr(demo, "_demonstrate", interrupted)
    assert demo.run(tmp_path) == 130
    monkeypatch.setattr(demo, "_demonstrate", lambda *_, **__: (_ for _ in ()).throw(failure))
    failure.__context__ = None
    assert demo.run(tmp_path) == 1


@pytest.mark.fault
def test_a_killed_demo_is_continued_by_the_next(tmp_path) -> None:
    folder = tmp_path / "results"
    process = subprocess.Popen(
        command(folder, 40),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(process, lambda: len(list(folder.glob("models/*.opsf"))) >= 4)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for left in pathlib.Path("/dev/shm").glob(f"sem.loky-{process.pid}-*"):
        left.unlink()  # joblib's; the process that would tidy up was killed with the others
    result = run(folder)
    assert result.returncode == 0, result.stdout + result.stderr
    assert ": each once" in result.stdout
    assert segments(folder) == set()


def test_a_folder_that_may_not_be_written_to_is_one_sentence(tmp_path) -> None:
    target = tmp_path / "file"
    target.write_text("")
    result = run(target / "below")
    assert result.returncode == 1
    assert len(result.stderr.strip().splitlines()) == 1
    assert "below" in result.stderr


def test_without_scikit_learn_the_error_names_the_extra(tmp_path) -> None:
    program = (
        "import sys; sys.modules['sklearn'] = None\n"
        "from ops_suite.__main__ import main\n"
        f"sys.exit(main(['demo', '--directory', {json.dumps(str(tmp_path))}]))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert 'pip install "ops-suite[demo]"' in result.stderr


@pytest.mark.parametrize("option", ["--trials=1", "--trials=many", "--workers=0"])
def test_numbers_that_make_no_search_are_wrong_usage(tmp_path, option) -> None:
    asked = [*command(tmp_path / "results", 3), option]
    result = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert option.split("=")[0] in result.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.fault
def test_a_killed_worker_ends_the_demo_with_a_sentence_and_the_next_goes_on(tmp_path) -> None:
    folder = tmp_path / "results"
    process = subprocess.Popen(
        command(folder, 500), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    # Not while they start: concurrent.futures may then wait for the others for ever.
    wait_until(process, lambda: any(folder.glob("models/*")))
    os.kill(workers_of(process.pid)[0], signal.SIGKILL)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 1
    assert "a worker process was killed" in said.splitlines()[-1]
    assert segments(folder) == set()
    again = run(folder)
    assert again.returncode == 0, again.stdout + again.stderr
    assert ": each once" in again.stdout


def wait_until(process: subprocess.Popen, reached: Callable[[], bool]) -> None:
    """Wait until the running demo has *reached* a state; its end, or ten minutes, is a failure."""
    end = time.monotonic() + 600
    while not reached():
        assert process.poll() is None, "the demo ended before"
        assert time.monotonic() < end, "the demo did not come that far"
        time.sleep(0.01)


def workers_of(pid: int) -> list[int]:
    """The processes of the pool of the demo *pid*."""
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [
        int(child)
        for child in children
        if b"spawn_main" in pathlib.Path(f"/proc/{child}/cmdline").read_bytes()
    ]


@pytest.mark.fault
def test_writers_that_are_killed_have_lost_nothing_that_they_acknowledged(tmp_path) -> None:
    folder = tmp_path / "my results"
    done = subprocess.run(
        [*command(folder, 2), "--kill", "--seconds", "5"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split("  ") for line in done.stdout.splitlines() if line.startswith("  ops-")]
    assert [row[1].strip() for row in rows] == list(KINDS)
    for row in rows:
        *_, acknowledged, kills, lost = [cell for cell in row if cell.strip()]
        assert float(acknowledged.strip().rstrip("KM")) > 0
        assert int(kills) >= 2
        assert int(lost) == 0
    assert not [info for info in list_segments() if info.name == array_name(folder / "kills")]


def test_what_is_lost_is_counted_and_fails(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(killer, "KINDS", {"ops-cache": "entries"})
    monkeypatch.setattr(
        killer, "_write_and_die", lambda *given: given[4].update({f"w-{given[2]}": 3})
    )
    there = {"w-0": {0, 1, 2}, "w-1": {0, 2, 7}}
    monkeypatch.setattr(killer, "found", lambda *_: there)
    assert demo.run(tmp_path, kill_seconds=0.01) == 1
    assert "1 writes lost" in capsys.readouterr().out


def test_a_writer_that_ends_by_itself_is_an_error_and_no_kill(
    tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(killer, "KINDS", {"ops-no-such": "nothing"})
    assert demo.run(tmp_path, kill_seconds=0.01) == 1
    assert "ended by itself" in capsys.readouterr().err
