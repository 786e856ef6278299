"""One log and many processes: pools, containers, second loggers, other users' files, and the saver's code."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import pytest

from ops.datalog import (
    DataLogError,
    DataLogger,
    LogExistsError,
    LoggerStopped,
    LogInUseError,
    compress_npy_logs,
    open_log,
    recovery,
)
from ops.datalog._liveness import HeldFile, is_held
from ops.datalog._shutdown import files_lock


def eventually(condition, seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def log_one(queue, number: int) -> tuple[int, int]:
    queue.log(1, number, bytes(20_000))
    return os.getpid(), len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_sink_that_comes_with_every_task_of_a_pool_opens_one_writer_a_process(
    logger, method
) -> None:
    folder = logger.output_directory
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(2, context) as pool:
        done = list(pool.map(log_one, [logger.input_queue] * 40, range(40)))
        pids = {pid for pid, _ in done}
        tails = {int(path.name.split("-")[0]) for path in folder.glob("*.tail")}
        assert tails == pids
    for pid in pids:
        counts = [count for process, count in done if process == pid]
        assert max(counts) - min(counts) <= 1
    assert not list(folder.glob("*.tail")), "workers that end give the space back"
    assert logger.read().counts() == {1: 40}


def test_sinks_of_one_process_share_a_writer_and_go_on_behind_each_others_close(logger) -> None:
    sinks = [pickle.loads(pickle.dumps(logger.input_queue)) for _ in range(5)]
    for number, sink in enumerate(sinks):
        sink.log(1, number, b"x")
    assert len(list(logger.output_directory.glob("*.tail"))) == 1
    sinks[0].close()
    sinks[1].log(1, 5, b"x")
    assert [m.timestamp for m in logger.read()] == list(range(6))
    assert logger.read().verify().is_whole


def test_logs_that_are_stopped_keep_no_descriptors_of_their_process(tmp_path) -> None:
    open_files = []
    sinks = []
    for number in range(12):
        with DataLogger(tmp_path, f"log{number}", layout="segments", sync="none") as logger:
            sinks.append(pickle.loads(pickle.dumps(logger.input_queue)))
            sinks[-1].log(1, 1, bytes(20_000))
        with pytest.raises(LoggerStopped):
            sinks[-1].log(1, 2, b"late")
        sinks.clear()
        del logger
        gc.collect()
        open_files.append(len(os.listdir("/proc/self/fd")))
    assert max(open_files[2:]) == open_files[1]


def test_a_producer_that_finds_its_log_stopped_gives_its_tail_back(logger, run_python) -> None:
    program = """
import sys
from ops.datalog import LoggerStopped
from ops.datalog.sink import LogSink
sink = LogSink(sys.argv[1])
sink.log(1, 1, b"accepted")
print("logged", flush=True)
sys.stdin.readline()
try:
    sink.log(1, 2, b"refused")
except LoggerStopped:
    print("stopped", flush=True)
sys.stdin.readline()
"""
    producer = run_python(program, logger.output_directory, stdin=subprocess.PIPE)
    assert producer.stdout.readline() == "logged\n"
    logger.stop()
    assert len(list(logger.output_directory.glob("*.tail"))) == 1, "of an idle producer"
    producer.stdin.write("\n")
    producer.stdin.flush()
    assert producer.stdout.readline() == "stopped\n"
    assert not list(logger.output_directory.glob("*.tail"))
    assert [m.timestamp for m in logger.read()] == [1]
    producer.stdin.close()


def test_a_sink_finds_the_log_again_that_was_removed_and_made_anew(tmp_path) -> None:
    first = DataLogger(tmp_path, "rig", layout="segments", sync="none")
    first.start()
    sink = first.input_queue
    log = sink.log
    sink.log(1, 1, b"old")
    log = sink.log
    first.stop()
    shutil.rmtree(first.output_directory)
    with DataLogger(tmp_path, "rig", layout="segments", sync="none") as second:
        log(1, 2, b"new")
        pickle.loads(pickle.dumps(sink)).log(1, 3, b"new")
        assert [m.timestamp for m in second.read()] == [2, 3]


def test_the_tail_of_a_killed_producer_is_given_back_before_the_logger_stops(
    tmp_path, run_python
) -> None:
    program = """
import os, sys
from ops.datalog.sink import LogSink
sink = LogSink(sys.argv[1])
for number in range(10): sink.log(7, number, b"x")
os.kill(os.getpid(), 9)
"""
    with DataLogger(tmp_path, layout="segments", sync_interval=0.01) as logger:
        run_python(program, logger.output_directory).wait()
        logger.input_queue.log(1, 1, b"alive")
        assert eventually(lambda: len(list(logger.output_directory.glob("*.tail"))) == 1)
        assert logger.read().counts() == {1: 1, 7: 10}
        logger.input_queue.log(1, 2, b"alive")
    assert logger.read().counts() == {1: 2, 7: 10}
    assert logger.read().verify().is_whole


@pytest.mark.parametrize("take_over", ["absorb_ended", "finish_segments", "_recovered"])
def test_a_producer_that_goes_on_to_a_segment_and_dies_while_it_is_looked_at_loses_nothing(
    logger, run_python, monkeypatch, take_over
) -> None:
    program = """
import os, sys
from ops.datalog.sink import LogSink
sink = LogSink(sys.argv[1])
for number in range(50): sink.log(7, number, bytes(3000))
print("in the tail", flush=True)
sys.stdin.readline()
for number in range(50, 700): sink.log(7, number, bytes(3000))
os.kill(os.getpid(), 9)
"""
    folder = logger.output_directory
    producer = run_python(program, folder, stdin=subprocess.PIPE)
    producer.stdout.readline()
    assert not list(folder.glob("*.seg"))
    is_alive = recovery.writer_is_alive

    def go_on_and_die(tail) -> bool:
        producer.communicate("go on\n")
        return is_alive(tail)

    monkeypatch.setattr(recovery, "writer_is_alive", go_on_and_die)
    getattr(recovery, take_over)(folder)
    monkeypatch.undo()
    assert [m.timestamp for m in logger.read()] == list(range(700))
    assert logger.read().verify().is_whole
    assert not list(folder.glob("*.tail"))


PRODUCER = """
import os, sys
from ops.datalog.sink import LogSink
sink, number = LogSink(sys.argv[1]), 0
while True:
    sink.log(1, number, b"z" * 1000)
    print(number, flush=True)
    number += 1
"""


@pytest.mark.fault
@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root and unshare (util-linux)"
)
def test_a_producer_in_another_pid_namespace_is_known_to_be_alive(logger) -> None:
    folder = logger.output_directory
    inside = ["unshare", "-p", "-f", "--kill-child", "--mount-proc", sys.executable, "-c", PRODUCER]
    child = subprocess.Popen([*inside, str(folder)], stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"0\n"
    for refused in (lambda: open_log(folder).recover(), lambda: compress_npy_logs(folder, True)):
        with pytest.raises(LogInUseError):
            refused()
    child.kill()
    acknowledged = 1 + child.communicate()[0].count(b"\n")
    assert eventually(lambda: not any(map(is_held, folder.glob("*.tail"))))
    assert open_log(folder).counts()[1] >= acknowledged
    logger.stop()
    assert open_log(folder).counts()[1] >= acknowledged


def test_a_second_logger_is_refused_while_the_first_is_started(tmp_path, run_python) -> None:
    first = DataLogger(tmp_path, "rig", layout="segments", sync="none")
    first.start()
    first.input_queue.log(1, 1, b"a")
    second = DataLogger(tmp_path, "rig", layout="segments", exist_ok=True, sync="none")
    with pytest.raises(LogInUseError, match="Another logger"):
        second.start()
    assert not second.started
    program = (
        "import sys\nfrom ops.datalog import DataLogger, LogInUseError\n"
        "try: DataLogger(sys.argv[1], 'rig', exist_ok=True).start()\n"
        "except LogInUseError: print('refused')\n"
    )
    assert run_python(program, tmp_path).communicate()[0] == "refused\n"
    second.stop()
    first.input_queue.log(1, 2, b"b")
    first.stop()
    second.start()
    second.input_queue.log(1, 3, b"c")
    second.stop()
    assert [m.timestamp for m in second.read()] == [1, 2, 3]


def test_a_logger_that_died_leaves_the_log_to_the_next_though_its_children_live(
    tmp_path, run_python
) -> None:
    program = """
import os, sys, time
from ops.datalog import DataLogger
logger = DataLogger(sys.argv[1], "rig", layout="segments", sync="none"); logger.start()
if os.fork() == 0:
    logger.input_queue.log(2, 1, b"child")
    print("child", flush=True)
    time.sleep(600)
time.sleep(600)
"""
    owner = run_python(program, tmp_path)
    assert owner.stdout.readline() == "child\n"
    owner.kill()
    owner.wait()
    with DataLogger(tmp_path, "rig", exist_ok=True, layout="segments", sync="none") as logger:
        logger.input_queue.log(1, 2, b"next")
    assert logger.read().counts() == {1: 1, 2: 1}
    (pid,) = {int(path.name.split("-")[0]) for path in logger.output_directory.glob("*.tail")}
    os.kill(pid, 9)


def test_a_process_that_is_paused_while_it_archives_is_not_waited_for_without_a_limit(
    tmp_path, run_python
) -> None:
    with DataLogger(tmp_path, "rig", layout="segments", sync="none") as logger:
        logger.input_queue.log(1, 1, b"a")
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom ops.datalog._shutdown import files_lock\n"
        "with files_lock(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(600)\n"
    )
    holder = run_python(program, logger.output_directory)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(LogInUseError, match="opened, closed or archived"):
        logger.start(timeout=0.1)
    holder.kill()
    holder.wait()
    logger.start(timeout=60)
    with files_lock(logger.output_directory), pytest.raises(LogInUseError):
        logger.stop(timeout=60)
    logger.stop()


def test_a_held_file_is_free_when_its_holder_is_gone(tmp_path) -> None:
    held = HeldFile(tmp_path / "file")
    assert held.take()
    assert is_held(tmp_path / "file")
    assert not HeldFile(tmp_path / "file").take()
    pid = os.fork()
    if pid == 0:
        held.release()  # what a child does leaves the parent's lock alone
        os._exit(0)
    os.waitpid(pid, 0)
    assert is_held(tmp_path / "file")
    del held
    assert not is_held(tmp_path / "file")


def test_a_log_that_is_started_and_still_empty_is_opened_and_followed(logger) -> None:
    log = open_log(logger.output_directory)
    assert (log.sources(), log.counts(), list(log)) == ([], {}, [])
    assert log.verify().is_whole

    def log_and_stop(_: float) -> None:
        logger.input_queue.log(1, 1, b"first")
        logger.stop()

    assert [m.timestamp for m in log.follow(wait=log_and_stop)] == [1]


SHADOWS = {
    "ops/__init__.py": "raise SystemExit('the team\\'s own scripts')",
    "queue.py": "raise SystemExit('a file of the user ran')",
    "select.py": "raise SystemExit('a file of the user ran')",
    "json.py": "raise SystemExit('a file of the user ran')",
}


@pytest.mark.parametrize("way", ["current folder", "PYTHONPATH", "script"])
def test_the_saver_runs_no_code_of_the_users_folder(tmp_path, way) -> None:
    application, data = tmp_path / "application", tmp_path / "data"
    application.mkdir()
    program = application / "run.py"
    program.write_text(
        "import sys, time\nfrom ops.datalog import DataLogger\n"
        "logger = DataLogger(sys.argv[1], layout='segments', sync_interval=0.01); logger.start()\n"
        "logger.input_queue.log(1, 1, b'x')\n"
        "time.sleep(1)  # for a saver that dies at once to die\n"
        "print(logger.saver_restarts, logger.errors); logger.stop()\n"
    )
    environment = dict(os.environ)
    for name, text in SHADOWS.items():
        shadow = data / name
        shadow.parent.mkdir(parents=True, exist_ok=True)
        shadow.write_text(text)
    if way == "PYTHONPATH":
        environment["PYTHONPATH"] = (
            "."  # what the program has imported before it changes the folder
        )
        program.write_text(
            "import os\nimport ops.datalog.logger, ops.datalog._supervisor\n"
            + program.read_text().replace(
                "from ops.datalog import DataLogger",
                f"os.chdir({str(data)!r})\nfrom ops.datalog import DataLogger",
            )
        )
    if way == "script":
        program = data.parent / "run.py"
        program.write_text((application / "run.py").read_text())
    done = subprocess.run(
        [sys.executable, program, tmp_path / "logs"],
        cwd=application if way == "PYTHONPATH" else data,
        env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "0 []\n", "")


def test_a_log_is_stopped_by_no_one_but_its_logger(tmp_path) -> None:
    logger = DataLogger(tmp_path, "rig", sync="none")
    with pytest.raises(LoggerStopped):
        logger.input_queue.log(1, 1, b"never started")
    logger.stop()
    with logger:
        logger.input_queue.log(1, 1, b"x")
        with pytest.raises(DataLogError):
            open_log(logger.output_directory).recover()
    with pytest.raises(LogExistsError):
        DataLogger(tmp_path, "rig")
