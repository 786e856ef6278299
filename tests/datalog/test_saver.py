"""The saver: syncs in batches, dies without harm, and says what it could not do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ops.datalog import DataLogger, SaverError, open_log
from ops.datalog import saver as saver_module
from ops.datalog._supervisor import Supervisor
from ops.datalog.footer import is_sealed
from ops.datalog.saver import Saver
from ops.datalog.state import LogState
from ops.datalog.writer import Writer
from ops.foundation.errors import ValidationError


def eventually(condition, seconds: float = 20.0) -> bool:
    """Wait for something that another process does."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


@pytest.fixture
def saver(logger):
    with ThreadPoolExecutor(2) as pool:
        yield Saver(logger.output_directory, pool)


@pytest.fixture
def synced(monkeypatch) -> list[str]:
    """The files that were synced, in order."""
    names: list[str] = []

    def fdatasync(fd: int) -> None:
        names.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))

    monkeypatch.setattr(saver_module.os, "fdatasync", fdatasync)
    return names


def test_the_saver_syncs_the_segments_that_grew_and_every_tail(logger, saver, synced) -> None:
    logger.input_queue.log(1, 1, bytes(20_000))
    saver.work()
    assert sorted(name.rsplit(".")[-1] for name in synced) == ["seg", "tail"]
    synced.clear()
    saver.work()
    assert [name.rsplit(".")[-1] for name in synced] == ["tail"]
    logger.input_queue.log(1, 2, bytes(20_000))
    synced.clear()
    saver.work()
    assert sorted(name.rsplit(".")[-1] for name in synced) == ["seg", "tail"]


def test_the_saver_seals_segments_that_their_writer_has_left(logger, saver) -> None:
    writer = Writer(logger.output_directory, segment_bytes=50_000)
    for number in range(5):
        writer.log(1, number, bytes(20_000))
    first, second, third = sorted(logger.output_directory.glob("*.seg"))
    saver.work()
    assert is_sealed(first)
    assert is_sealed(second)
    assert not is_sealed(third), "it is still written"
    assert [m.timestamp for m in logger.read()] == [0, 1, 2, 3, 4]
    writer.close()


def test_an_error_of_the_saver_reaches_the_next_put_once_the_owner_and_stop(
    tmp_path, monkeypatch
) -> None:
    logger = DataLogger(tmp_path, layout="segments", sync="none")
    logger.start()
    queue = logger.input_queue
    queue.log(1, 1, b"before")
    with ThreadPoolExecutor(1) as pool:
        saver = Saver(logger.output_directory, pool)

        def broken(fd: int) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(saver_module.os, "fdatasync", broken)
        saver.work()
        saver.work()
        monkeypatch.undo()
    assert len(logger.errors) == 1
    assert "Input/output error" in logger.errors[0]
    with pytest.raises(SaverError, match="Input/output error"):
        queue.log(1, 2, b"refused")
    queue.log(1, 3, b"after")
    with pytest.raises(SaverError, match="Input/output error"):
        logger.stop()
    assert not logger.started
    assert len(logger.errors) == 1
    assert [m.timestamp for m in logger.read()] == [1, 3]
    logger.start()
    assert logger.errors == []
    queue.log(1, 4, b"again")
    logger.stop()


@pytest.mark.fault
def test_a_killed_saver_is_replaced_and_nothing_is_lost(tmp_path) -> None:
    with DataLogger(tmp_path, layout="segments", sync_interval=0.01) as logger:
        for kill in range(4):
            old = logger._supervisor.pid
            logger.input_queue.log(1, kill, b"x")
            os.kill(old, signal.SIGKILL)
            assert eventually(lambda old=old: logger._supervisor.pid not in {None, old})
        assert logger.saver_restarts == 4
        assert logger.alive
    assert [m.timestamp for m in logger.read()] == [0, 1, 2, 3]
    assert logger.errors == []


def test_a_saver_that_cannot_live_is_an_error(tmp_path) -> None:
    reports: list[str] = []
    supervisor = Supervisor(tmp_path / "missing", 0.01, 1, reports.append)
    assert eventually(lambda: reports)
    assert supervisor.pid is None
    assert "code 1" in reports[0]
    supervisor.end()


def test_the_saver_lives_on_while_writers_live_and_ends_after_them(tmp_path, run_python) -> None:
    program = """
import os, sys, time
from ops.datalog import DataLogger
logger = DataLogger(sys.argv[1], layout="segments", sync_interval=0.02); logger.start()
logger.input_queue.log(1, 1, b"owner")
pid = os.fork()
if pid == 0:
    logger.input_queue.log(2, 2, b"child")
    time.sleep(600)
print(logger._supervisor.pid, pid, flush=True)
time.sleep(600)
"""
    owner = run_python(program, tmp_path)
    saver, child = map(int, owner.stdout.readline().split())
    time.sleep(0.3)  # the saver is up, and whether it survives is asked of the system below
    owner.kill()
    owner.wait()
    running = Path(f"/proc/{saver}/cmdline")
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(["tail", f"--pid={saver}", "-f", "/dev/null"], timeout=0.3, check=False)
    os.kill(child, signal.SIGKILL)
    assert eventually(lambda: not (running.exists() and running.read_bytes()))
    assert [m.timestamp for m in open_log(tmp_path / "data_logger_data_log")] == [1, 2]


def test_with_a_sync_for_each_message_it_is_in_the_segment_when_put_returns(tmp_path) -> None:
    with DataLogger(tmp_path, layout="segments", sync="each") as logger:
        logger.input_queue.log(1, 1, b"abc")
        (segment,) = logger.output_directory.glob("*.seg")
        assert segment.stat().st_size == 64 + 32 + 3
        assert logger._supervisor is None
    assert logger.read().verify().messages == 1


def test_without_sync_there_is_no_saver(logger) -> None:
    assert logger._supervisor is None
    assert logger.alive
    assert logger.saver_restarts == 0


@pytest.mark.parametrize(
    "options",
    [
        {"process_count": 0}, {"thread_count": 0}, {"sleep_timer": -1}, {"sync_interval": 0},
        {"sync": "never"}, {"on_full": "explode"}, {"checksum": "md5"},
    ],
)  # fmt: skip
def test_options_that_make_no_sense_are_refused(tmp_path, options) -> None:
    with pytest.raises(ValidationError):
        DataLogger(tmp_path, **options)


def test_an_error_without_room_for_its_text_is_still_counted(tmp_path) -> None:
    state = LogState(tmp_path, create=True)
    (tmp_path / "saver.errors").mkdir()
    state.add_error("lost")
    (tmp_path / "saver.errors").rmdir()
    assert state.errors() == ["The saver failed, and its message did not fit on the disk."]


def test_the_saver_program_says_what_it_needs() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "ops.datalog.saver"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert "folder" in result.stderr
