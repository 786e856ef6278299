"""`@cache` with several processes, kills and disks that take no more; and its parameters file."""

from __future__ import annotations

import logging
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ops.cache import cache, configure, parameter
from ops.foundation import ValidationError
from ops.serialize import SmartSerializer

Child = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Iterator[Path]:
    configure(data_folder=tmp_path)
    yield tmp_path
    configure(data_folder=None)


# Written to a file, since the source of the function is part of its key.
PROGRAM = """
import sys, time
from ops.cache import cache, configure
configure(data_folder=sys.argv[1])
seconds = float(sys.argv[2])
@cache
def f(x):
    with open(sys.argv[1] + "/calls", "a") as file:
        file.write("x")
    print("computing", flush=True)
    time.sleep(seconds)
    return {"x": x}
print(f(1))
"""


@pytest.mark.fault
def test_processes_compute_a_missing_result_once_and_a_killed_one_hands_over(
    tmp_path: Path, child: Child
) -> None:
    program = f"import runpy; runpy.run_path({str(tmp_path / 'program.py')!r})"
    (tmp_path / "program.py").write_text(PROGRAM)
    dead = child(program, tmp_path, 600)
    assert dead.stdout
    assert dead.stdout.readline() == "computing\n"
    others = [child(program, tmp_path, 0.3) for _ in range(8)]
    dead.kill()
    outputs = sorted(other.communicate(timeout=300)[0] for other in others)
    assert outputs == ["computing\n{'x': 1}\n"] + ["{'x': 1}\n"] * 7
    assert (tmp_path / "calls").read_text() == "xx"


@pytest.mark.fault
def test_a_process_killed_while_it_stores_leaves_nothing_wrong(
    tmp_path: Path, child: Child
) -> None:
    program = f"import runpy; runpy.run_path({str(tmp_path / 'program.py')!r})"
    (tmp_path / "program.py").write_text(
        """
import sys
from ops.cache import cache, configure
configure(data_folder=sys.argv[1])
@cache(compress=False)
def f(n):
    return bytes([n % 256]) * 300_000
n = 0
while True:
    assert f(n % 5) == bytes([n % 5]) * 300_000
    f.clear() if n % 7 == 0 else None
    n += 1
    print(n, flush=True)
"""
    )
    for kill in range(8):
        writers = [child(program, tmp_path, kill) for _ in range(2)]
        for writer in writers:
            assert writer.stdout
            for _ in range(3 + 5 * kill):
                assert writer.stdout.readline(), "it stopped: a wrong value, or an error"
            writer.kill()


def test_threads_compute_once_and_share_no_mutable() -> None:
    calls: list[int] = []
    gate = threading.Barrier(6)

    @cache(ignore=["calls"])
    def f() -> list[int]:
        calls.append(1)
        return [1]

    results: list[list[int]] = []

    def ask() -> None:
        gate.wait()
        results.append(f())

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (calls, results) == ([1], [[1]] * 6)
    assert len({id(result) for result in results}) == 6


def test_a_function_may_call_itself_with_other_and_with_the_same_arguments() -> None:
    state = {"deep": False}

    @cache(ignore=["fib"])
    def fib(n: int) -> int:
        return n if n < 2 else fib(n - 1) + fib(n - 2)

    @cache(ignore=["state", "odd"])
    def odd() -> int:
        if state["deep"]:
            return 1
        state["deep"] = True
        return odd() + 1

    assert fib(20) == 6765
    assert odd() == 2


@pytest.mark.fault
def test_a_result_that_cannot_be_stored_is_returned(tmp_path: Path, child: Child) -> None:
    (tmp_path / "program.py").write_text(
        """
import resource, sys
from ops.cache import cache, configure
configure(data_folder=sys.argv[1])
@cache
def f(n):
    return bytes(range(256)) * n
assert len(f(1)) == 256
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
cache_all = cache(compress=False)(f._func)
print(len(cache_all(1000)), len(f(1)))
"""
    )
    program = f"import runpy; runpy.run_path({str(tmp_path / 'program.py')!r})"
    assert child(program, tmp_path).communicate(timeout=300)[0] == "256000 256\n"
    assert not list(tmp_path.glob("cache/*/.*.tmp"))


def test_a_folder_that_cannot_be_made_costs_only_the_caching(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    f = cache(lambda: 5)
    with caplog.at_level(logging.WARNING, "ops.cache"):
        assert f() == f() == 5
    assert "is not stored" in caplog.text


def test_parameters_come_from_params_py_unless_configure_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert parameter("epochs_of_file") is None
    (tmp_path / "params.py").write_text(
        "import os\nepochs_of_file = 3\nmodel_of_file: dict = {'depth': [1, 2]}\n"
        "computed = os.getcwd()\nraise SystemExit('this file is never run')\n"
    )
    calls: list[Any] = []

    @cache(ignore=["calls"], depends_on=["epochs_of_file", "model_of_file.depth"])
    def train() -> int:
        calls.append(parameter("epochs_of_file"))
        return len(calls)

    assert (train(), train(), parameter("model_of_file.depth")) == (1, 1, [1, 2])
    (tmp_path / "params.py").write_text("epochs_of_file = 40\nmodel_of_file = {'depth': [1, 2]}\n")
    assert (train(), calls) == (2, [3, 40])
    configure(data_folder=tmp_path, epochs_of_file=7)
    assert (train(), calls) == (3, [3, 40, 7])


def test_a_computed_parameter_and_a_broken_file_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.py").write_text("import os\ncomputed = os.getcwd()\n")
    with pytest.raises(ValidationError, match=r"os.getcwd\(\).*computed"):
        parameter("computed")
    (tmp_path / "params.py").write_text("computed = (\n")
    with pytest.raises(ValidationError, match="cannot be read"):
        parameter("computed")


def test_what_another_process_clears_while_it_is_read_is_no_damage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[int] = []

    @cache(ignore=["calls"])
    def f(x: int) -> list[int]:
        calls.append(x)
        return [x]

    f(1)
    real = SmartSerializer.load

    def cleared(*args: Any, **options: Any) -> Any:
        monkeypatch.undo()
        f.clear()
        return real(*args, **options)

    monkeypatch.setattr(SmartSerializer, "load", cleared)
    assert f(1) == [1]
    assert calls == [1, 1]
