"""What is left of temporary files: nothing, and after a kill nothing that the next program does not remove."""

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile

import pytest

from ops.metrics_collect import Package, collector, query_collector, tempdir
from ops.metrics_collect.csv_parts import write_csv_parts
from ops.metrics_collect.late_rows import FreshCollector
from ops.metrics_collect.workspaces import Workspace

ROWS = "select value as id from json_each('[1, 2, 3, 4, 5, 6]')"


@pytest.fixture
def db():
    with sqlite3.connect(":memory:") as db:
        yield db
    db.close()


def test_a_collector_gathers_into_the_folder_of_its_package(db, temporary_files, tmp_path):
    numbers = query_collector("numbers", ROWS, max_part_bytes=4)(db=db)
    for _ in Package([numbers], directory=tmp_path, max_size=4):
        assert list(temporary_files.iterdir()) == []
    assert list(tmp_path.iterdir()) == []


def test_a_package_that_is_left_early_leaves_nothing(db, tmp_path, temporary_files):
    @collector
    def elsewhere():
        return write_csv_parts(
            [[1], [2], [3]], ["id"], lambda i: tmp_path / f"{i}.csv", max_bytes=4
        )

    numbers = query_collector("numbers", ROWS, max_part_bytes=4)
    next(iter(Package([elsewhere(), numbers(db=db)], max_size=4)))
    assert list(tmp_path.iterdir()) == []
    assert list(temporary_files.iterdir()) == []


def test_a_collector_that_was_told_where_to_write_does_so(db, tmp_path):
    numbers = query_collector("numbers", ROWS)(db=db, output_dir=tmp_path)
    assert numbers.into("elsewhere") is numbers


def test_late_rows_that_cannot_be_told_leave_nothing(db, tmp_path):
    numbers = query_collector("numbers", ROWS, max_part_bytes=4)(db=db, output_dir=tmp_path / "out")
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match="is no column"):
        FreshCollector(numbers, "name", set(), tmp_path / "keys").gather()
    assert list((tmp_path / "out").iterdir()) == []


CHILD = """
import os, signal, sys
from ops.metrics_collect import Package, collector, query_collector

@collector
def deadly(*, output_dir=None):
    with open(os.path.join(output_dir, "part.csv"), "w") as file:
        file.write("id\\n")
    print(os.path.basename(output_dir), flush=True)
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)

list(Package([deadly()]))
"""


@pytest.mark.fault
def test_what_a_killed_program_leaves_is_removed_by_the_next_one_and_not_before(temporary_files):
    with subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        folder = child.stdout.readline().strip()
        with tempdir():
            pass
        assert os.listdir(temporary_files) == [folder]  # its owner lives
    assert child.returncode == -signal.SIGKILL
    assert os.listdir(temporary_files / folder) == ["part.csv"]
    subprocess.run(
        [sys.executable, "-c", "from ops.metrics_collect import tempdir\nwith tempdir(): pass"],
        check=True,
    )
    assert os.listdir(temporary_files) == []


def test_a_workspace_that_was_swept_before_it_was_locked_is_made_again(tmp_path, monkeypatch):
    made = []
    mkdtemp = tempfile.mkdtemp

    def swept_at_once(*arguments):
        made.append(mkdtemp(*arguments))
        if len(made) == 1:
            os.rmdir(made[0])
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", swept_at_once)
    space = Workspace(parent=tmp_path)
    assert os.listdir(tmp_path) == [space.path.name]
    assert str(space.path) == made[1]
    space.close()


def test_folders_that_are_no_workspaces_are_left_alone(tmp_path):
    others = ["ops-metrics-1", "mine.ops-metrics.bak"]
    for name in others:
        (tmp_path / name).mkdir()
    (tmp_path / "file.ops-metrics").touch()
    (tmp_path / "link.ops-metrics").symlink_to(tmp_path / others[0])
    Workspace(parent=tmp_path).close()
    assert len(os.listdir(tmp_path)) == 4


TERMINATED = """
import signal, sys
from ops.metrics_collect import __main__ as cli, commands, tempdir

def gather(options):
    with tempdir():
        print("ready", flush=True)
        signal.pause()

commands.gather = gather
sys.exit(cli.main(["gather", "--db", "x", "--since", "2026-10-01"]))
"""


def test_a_command_that_is_terminated_leaves_nothing(temporary_files):
    with subprocess.Popen(
        [sys.executable, "-c", TERMINATED], stdout=subprocess.PIPE, text=True
    ) as child:
        child.stdout.readline()
        child.terminate()
    assert child.returncode == 128 + signal.SIGTERM
    assert list(temporary_files.iterdir()) == []


def test_a_child_that_leaves_the_block_removes_nothing(temporary_files):
    child = -1
    try:
        with tempdir() as folder:
            child = os.fork()
            if child:
                assert os.waitpid(child, 0)[1] == 0
                assert os.path.isdir(folder)
    finally:
        if not child:
            os._exit(sys.exc_info()[0] is not None)
