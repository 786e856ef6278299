"""Laying out `.npy` files while messages are logged: the same files, whatever is killed when."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from ops.datalog import DataLogger, LogPackage, open_log
from ops.datalog import _prelayout as ahead_module
from ops.datalog._npy_archive import AHEAD, DRAFT
from ops.datalog._prelayout import Ahead, adopt
from ops.datalog.layout import lay_out_npy
from ops.foundation.errors import ValidationError


def log_some(logger, start: int, count: int, size: int = 20_000) -> None:
    """Log messages that go to the segment at once, and two of equal source and time."""
    for number in range(start, start + count):
        logger.input_queue.log(1 + number % 2, number // 4, bytes([number % 251]) * size)


def lay_out_ahead(folder) -> None:
    ahead = Ahead(folder)
    try:
        ahead.work()
    finally:
        ahead.close()


def contents(folder) -> list[tuple[int, int, bytes]]:
    return sorted((m.source_id, m.timestamp, m.data.tobytes()) for m in open_log(folder))


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.glob("*.npy"))


def test_what_was_laid_out_ahead_and_the_rest_make_the_same_files(logger, tmp_path) -> None:
    folder = logger.output_directory
    ahead = Ahead(folder)
    log_some(logger, 0, 10)
    ahead.work()
    assert len(list((folder / AHEAD).rglob("*.npy"))) == 10
    log_some(logger, 10, 10)
    logger.input_queue.put_many(3, [5, 5, 6], [[1], [2], [3]])  # in the tail only
    expected = contents(folder)  # nothing of it counts yet
    assert len(expected) == 23
    logger.stop()
    other = tmp_path / "other"
    open_log(folder).to_npy(other)
    count = lay_out_npy(folder, after=adopt(folder))
    assert count == 23
    assert contents(folder) == expected
    assert names(folder) == names(other)
    assert sorted(p.name for p in folder.iterdir() if p.is_dir() or p.suffix == ".seg") == []


def test_a_round_ahead_never_takes_the_name_of_an_older_message(tmp_path) -> None:
    for value in (1, 2):
        logger = DataLogger(tmp_path, exist_ok=True, sync="none")
        with logger:
            logger.input_queue.log(1, 7, bytes([value]) * 20_000)
            lay_out_ahead(logger.output_directory)
            logger.input_queue.log(1, 7, bytes([value + 2]) * 20_000)
    assert [m.data[0] for m in open_log(logger.output_directory)] == [1, 3, 2, 4]
    assert len(names(logger.output_directory)) == 4


@pytest.mark.parametrize("step", range(16))
def test_a_saver_killed_at_any_step_of_a_round_loses_and_doubles_nothing(
    logger, monkeypatch, step
) -> None:
    folder = logger.output_directory
    log_some(logger, 0, 4)
    lay_out_ahead(folder)
    log_some(logger, 4, 4)
    steps = iter(range(100))

    class Killed(BaseException):
        pass

    def counted(function):
        def call(*args, **options):
            if next(steps) == step:
                raise Killed
            return function(*args, **options)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(ahead_module, "write_npy", counted(ahead_module.write_npy))
        for name in ("mkdir", "rename", "write_text", "rmdir"):
            path = ahead_module.Path
            patch.setattr(path, name, counted(getattr(path, name)))
        patch.setattr(ahead_module.os, "rename", counted(os.rename))
        with pytest.raises(Killed):
            lay_out_ahead(folder)
    lay_out_ahead(folder)
    log_some(logger, 8, 1)
    expected = contents(folder)
    logger.stop()
    lay_out_npy(folder, after=adopt(folder))
    assert contents(folder) == expected
    assert len(names(folder)) == 9


def test_what_is_left_of_before_the_machine_was_started_is_not_used(logger, monkeypatch) -> None:
    folder = logger.output_directory
    log_some(logger, 0, 3)
    lay_out_ahead(folder)
    (torn,) = (
        list((folder / AHEAD).rglob("001_*0_1.npy")) or list((folder / AHEAD).rglob("001_*"))[:1]
    )
    torn.write_bytes(b"")  # as a file system may leave what was never synced
    monkeypatch.setattr(ahead_module, "_boot", lambda: "another")
    expected = contents(folder)
    Ahead(folder).close()
    assert list(torn.parent.iterdir()) == []
    torn.write_bytes(b"")  # nor is what no record tells of
    logger.stop()
    assert adopt(folder) == {}
    lay_out_npy(folder)
    assert contents(folder) == expected


def test_a_saver_killed_while_it_gives_up_leaves_no_part_to_be_taken_for_the_whole(
    logger, monkeypatch
) -> None:
    folder = logger.output_directory
    log_some(logger, 0, 6)
    ahead = Ahead(folder)
    ahead.work()

    class Killed(BaseException):
        pass

    def killed_half_way(path, **_) -> None:
        if path.exists():
            for file in sorted(path.glob("*.npy"))[:3]:
                file.unlink()
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(ahead_module.shutil, "rmtree", killed_half_way)
        with pytest.raises(Killed):
            ahead.give_up()
    ahead.close()
    expected = contents(folder)
    logger.stop()
    lay_out_npy(folder, after=adopt(folder))
    assert contents(folder) == expected
    assert len(names(folder)) == 6
    assert [path for path in folder.iterdir() if path.is_dir()] == []


def test_only_one_saver_lays_out(logger) -> None:
    first = Ahead(logger.output_directory)
    with pytest.raises(BlockingIOError):
        Ahead(logger.output_directory)
    first.give_up()
    assert not (logger.output_directory / AHEAD).exists()
    Ahead(logger.output_directory)


def test_a_saver_that_outlived_its_starter_does_not_disturb_the_end(logger) -> None:
    folder = logger.output_directory
    log_some(logger, 0, 4)
    orphan = Ahead(folder)
    orphan.work()
    log_some(logger, 4, 4)
    through = adopt(folder)
    with pytest.raises(FileNotFoundError):
        orphan.work()
    expected = contents(folder)
    logger.stop()
    lay_out_npy(folder, after=through)
    assert contents(folder) == expected
    assert len(names(folder)) == 8


def at_steps(patch, act) -> None:
    """Let *act* come before each step that a saver takes in its folder."""

    def counted(function):
        def call(*args, **options):
            act()
            return function(*args, **options)

        return call

    patch.setattr(ahead_module, "write_npy", counted(ahead_module.write_npy))
    for name in ("mkdir", "rename", "write_text", "rmdir", "read_text"):
        patch.setattr(ahead_module.Path, name, counted(getattr(ahead_module.Path, name)))
    patch.setattr(ahead_module.shutil, "rmtree", counted(ahead_module.shutil.rmtree))
    for name in ("rename", "listdir"):
        patch.setattr(ahead_module.os, name, counted(getattr(os, name)))


def outlived(tmp_path, monkeypatch, first: int, second: int) -> list[tuple[int, int, bytes]]:
    """Pause a saver at step *first*, and go on with it when that of the next start is at step *second*."""
    logger = DataLogger(tmp_path, f"log-{first}-{second}", sync="none")
    folder = logger.output_directory
    logger.start()
    log_some(logger, 0, 4)
    orphan = Ahead(folder)
    steps: dict[object, int] = {}
    is_paused, goes_on = threading.Event(), threading.Event()

    def work() -> None:
        try:
            orphan.work()
            orphan.close()
        except OSError:
            orphan.give_up()
        finally:
            is_paused.set()

    outliving = threading.Thread(target=work)

    def act() -> None:
        me = threading.current_thread()
        steps[me] = step = steps.get(me, -1) + 1
        if me is outliving and step == first:
            is_paused.set()
            assert goes_on.wait(10)
        elif me is not outliving and step == second:
            goes_on.set()
            outliving.join()

    with monkeypatch.context() as patch:
        at_steps(patch, act)
        outliving.start()
        assert is_paused.wait(10)
        steps[threading.current_thread()] = -1000
        logger.stop()
        logger.start()
        log_some(logger, 4, 4)
        try:
            following = Ahead(folder)
            steps[threading.current_thread()] = -1
            following.work()
            following.close()
        except BlockingIOError:  # the older one goes on with its work, and with it
            pass
        except OSError:
            following.give_up()
        goes_on.set()
        outliving.join()
    log_some(logger, 8, 2)
    logger.stop()
    return contents(folder)


@pytest.mark.parametrize(("first", "second"), [(f, s) for f in range(14, 22) for s in (12, 14, 16)])
def test_a_saver_that_is_paused_until_the_next_one_works_leaves_that_alone(
    tmp_path, monkeypatch, first, second
) -> None:
    expected = sorted((1 + n % 2, n // 4, bytes([n % 251]) * 20_000) for n in range(10))
    assert outlived(tmp_path, monkeypatch, first, second) == expected


@pytest.mark.fault
def test_messages_of_killed_producers_and_savers_are_all_laid_out(tmp_path, run_python) -> None:
    logger = DataLogger(tmp_path, "killed", sync_interval=0.02, lay_out_ahead=True)
    logger.start()
    folder = logger.output_directory
    program = (
        "import sys\n"
        "from ops.datalog.sink import LogSink\n"
        "sink = LogSink(__import__('pathlib').Path(sys.argv[1]), 'raise')\n"
        "number = 0\n"
        "while True:\n"
        "    sink.log(int(sys.argv[2]), number, bytes(3000))\n"
        "    print(number, flush=True)\n"
        "    number += 1\n"
    )
    acknowledged = {}
    for round_ in range(3):
        producer = run_python(program, folder, round_)
        for _ in range(400):
            last = producer.stdout.readline()
        os.kill(logger._supervisor.pid, signal.SIGKILL)
        producer.kill()
        rest = producer.stdout.read().split()
        acknowledged[round_] = int(rest[-1] if rest else last)
    end = time.monotonic() + 300
    while not list((folder / AHEAD).rglob("*.npy")) and time.monotonic() < end:
        time.sleep(0.01)
    assert list((folder / AHEAD).rglob("*.npy")), "the saver that took over goes on"
    logger.stop()
    for source, last in acknowledged.items():
        times = [m.timestamp for m in open_log(folder).iter(source)]
        assert times[: last + 1] == list(range(last + 1))
        assert len(times) <= last + 2, "nothing twice"


def test_what_cannot_be_laid_out_ahead_is_laid_out_at_the_end(tmp_path) -> None:
    """With no room for more files the saver gives up, says nothing and leaves it to `stop`."""
    with DataLogger(tmp_path, sync="none") as logger:
        log_some(logger, 0, 4)
        program = (
            "import resource, sys, pathlib\n"
            "from ops.datalog.saver import _prelay\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
            "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "_prelay(pathlib.Path(sys.argv[1]), 0.01)\n"
        )
        subprocess.run([sys.executable, "-c", program, str(logger.output_directory)], check=True)
        assert not (logger.output_directory / AHEAD).exists()
    assert len(names(logger.output_directory)) == 4


def test_archives_take_the_place_of_what_was_laid_out_ahead(logger) -> None:
    folder = logger.output_directory
    log_some(logger, 0, 4)
    lay_out_ahead(folder)
    logger.stop()
    logger.compress_logs(remove_sources=True)
    assert not (folder / AHEAD).exists()
    assert not (folder / DRAFT).exists()
    assert len(open_log(folder).columns(1).times) == 2


@pytest.mark.parametrize("options", [{"layout": "segments"}, {"sync": "none"}, {"sync": "each"}])
def test_laying_out_ahead_needs_a_saver_and_the_npy_layout(tmp_path, options) -> None:
    with pytest.raises(ValidationError, match="lay_out_ahead"):
        DataLogger(tmp_path, lay_out_ahead=True, **options)


def test_the_files_are_on_the_disk_before_the_segments_go(tmp_path, monkeypatch) -> None:
    from ops.datalog import layout

    seen = []

    def sync(folder) -> None:
        seen.append((len(list(folder.glob("*.npy"))), len(list(folder.parent.glob("*.seg")))))

    monkeypatch.setattr(layout, "_sync_file_system", sync)
    for way in ("none", "interval", "each"):
        with DataLogger(tmp_path, way, sync=way) as logger:
            logger.input_queue.put(LogPackage(1, 1, b"x" * 20_000))
    assert seen == [(1, 1), (1, 1)]
