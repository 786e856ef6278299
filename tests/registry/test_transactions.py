"""Transactions: all of it or nothing, whatever raises and whoever is killed."""

from __future__ import annotations

import errno
import pathlib
import signal
import subprocess
import sys

import pandas as pd
import pytest

from ops.registry import (
    EventType,
    HookType,
    InvalidValueError,
    LocalStorageBackend,
    SafeTransaction,
    StorageError,
    Transaction,
    TransactionError,
)
from ops.registry.disk import transactions


@pytest.fixture
def storage(tmp_path, operations):
    made = LocalStorageBackend(tmp_path / "files", operations=operations)
    made.write_json("old", "a.json")
    made.write_json("doomed", "d.json")
    made.write_dataframe(pd.DataFrame({"x": [1]}), "t.parquet")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "w.bin").write_bytes(b"old")
    made.write_artifact(tmp_path / "model", "m")
    return made


def change_everything(tx, tmp_path):
    tx.write_json("new", "a.json")
    tx.write_json("added", "deep/b.json")
    tx.write_dataframe(pd.DataFrame({"x": [2]}), "t.parquet", mode="append")
    (tmp_path / "model" / "w.bin").write_bytes(b"new")
    tx.write_artifact(tmp_path / "model", "m")
    tx.delete("d.json")


def content(storage, tmp_path):
    out = storage.read_artifact("m", tmp_path / "out")
    return {
        "paths": storage.list_paths(),
        "a": storage.read_json("a.json"),
        "t": storage.read_dataframe("t.parquet")["x"].tolist(),
        "m": (out / "w.bin").read_bytes(),
    }


OLD = {"paths": ["a.json", "d.json", "m/w.bin", "t.parquet"], "a": "old", "t": [1], "m": b"old"}
NEW = {
    "paths": ["a.json", "deep/b.json", "m/w.bin", "t.parquet"],
    "a": "new",
    "t": [1, 2],
    "m": b"new",
}


@pytest.mark.parametrize("kind", [Transaction, SafeTransaction])
def test_a_block_takes_effect_at_its_end(storage, tmp_path, operations, kind):
    with kind(storage) as tx:
        change_everything(tx, tmp_path)
        assert content(storage, tmp_path) == OLD
    assert content(storage, tmp_path) == NEW
    (event,) = operations.emitter.get_history(EventType.TRANSACTION_COMMITTED)
    assert event.data["paths"] == ["a.json", "deep/b.json", "t.parquet", "m", "d.json"]
    assert list((storage.root / ".transactions").iterdir()) == []


@pytest.mark.parametrize("kind", [Transaction, SafeTransaction])
def test_a_block_that_raises_changes_nothing(storage, tmp_path, operations, kind):
    def fail():
        with kind(storage) as tx:
            change_everything(tx, tmp_path)
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert content(storage, tmp_path) == OLD
    assert operations.emitter.get_history(EventType.TRANSACTION_ROLLED_BACK)
    with SafeTransaction(storage):  # the lock is free again
        pass


def test_a_commit_that_fails_halfway_is_undone(storage, tmp_path):
    (storage.root / "blocked").write_bytes(b"a file where a folder would be needed")
    tx = Transaction(storage).begin()
    change_everything(tx, tmp_path)
    tx.write_json(1, "blocked/x.json")
    with pytest.raises(StorageError, match="undone"):
        tx.commit()
    (storage.root / "blocked").unlink()
    assert content(storage, tmp_path) == OLD


def test_one_path_twice_ends_as_the_last_one_or_as_before(storage, tmp_path):
    with Transaction(storage) as tx:
        tx.write_json(1, "a.json")
        tx.delete("a.json")
        tx.write_json(2, "a.json")
    assert storage.read_json("a.json") == 2


def test_a_veto_or_a_bad_path_stops_all_of_it(storage, tmp_path, operations):
    @operations.hooks.register(HookType.PRE_STORAGE_WRITE)
    def refuse(data):
        if data["path"] == "locked":
            raise ValueError("hands off")

    tx = Transaction(storage).begin()
    tx.write_json(1, "a.json")
    with pytest.raises(ValueError, match="hands off"):
        tx.write_json(1, "locked")
    tx.rollback()
    with pytest.raises(InvalidValueError), Transaction(storage) as tx:
        tx.write_json(1, ".transactions/x")
    assert content(storage, tmp_path) == OLD


def test_a_transaction_is_over_after_its_end(storage):
    tx = Transaction(storage)
    with pytest.raises(TransactionError):
        tx.write_json(1, "x")
    with tx, pytest.raises(TransactionError):
        tx.begin()
    with pytest.raises(TransactionError):
        tx.commit()


def test_a_transaction_at_work_is_left_alone_by_others(storage, tmp_path):
    with Transaction(storage) as tx:
        tx.write_json("new", "a.json")
        LocalStorageBackend(storage.root)  # recovers what is dead, and this is not
    assert storage.read_json("a.json") == "new"


KILLED = """
import os, pathlib, signal, sys, traceback
from ops.registry.disk import transactions
from ops.registry.disk.storage import LocalStorageBackend

root, where = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
sys.path.insert(0, sys.argv[3])
calls = {"rename": (pathlib.Path, "rename"), "replace": (os, "replace"), "fsync": (os, "fsync"),
         "unlink": (pathlib.Path, "unlink")}
steps = 0

def killed_at(number, target, name):
    real = getattr(target, name)
    def step(*args, **kwargs):
        global steps
        steps += 1
        if steps == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)
    setattr(target, name, step)

storage = LocalStorageBackend(root)
def attempt():
    with transactions.Transaction(storage) as tx:
        tx.write_json("new", "a.json")
        tx.write_json("added", "deep/b.json")
        tx.write_artifact(where, "m")
        tx.delete("d.json")

def reset():
    storage.write_json("old", "a.json")
    storage.write_json("doomed", "d.json")
    storage.delete("deep")
    (where / "w.bin").write_bytes(b"old")
    storage.write_artifact(where, "m")
    (where / "w.bin").write_bytes(b"new")

def state():
    return (storage.read_json("a.json"), storage.exists("deep/b.json"), storage.exists("d.json"),
            (root / "m" / "w.bin").read_bytes().decode())

OLD, NEW = ("old", False, True, "old"), ("new", True, False, "new")

def killed(number, work):
    pid = os.fork()
    if not pid:
        for target, name in calls.values():
            killed_at(number, target, name)
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    assert not os.WIFEXITED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)

seen = {"old": 0, "new": 0}
number = 0
while True:
    number += 1
    reset()
    if not killed(number, attempt):
        break
    # The recovery is killed at each of its steps too, until one gets through.
    again = 0
    while killed(again := again + 1, lambda: transactions.recover(root)):
        pass
    found = state()
    assert found in (OLD, NEW), (number, found)
    seen["old" if found == OLD else "new"] += 1
    assert not list((root / ".transactions").iterdir()), number
assert state() == NEW
print(seen["old"], seen["new"])
"""


@pytest.mark.fault
def test_killed_at_every_step_it_is_all_or_nothing(tmp_path):
    (tmp_path / "model").mkdir()
    command = [sys.executable, "-c", KILLED, str(tmp_path / "files"), str(tmp_path / "model"), "."]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    undone, finished = map(int, done.stdout.split())
    assert undone > 10
    assert finished > 0


KILLED_BEFORE_THE_END = """
import os, signal, sys
import pandas as pd
from ops.registry.disk import transactions
from ops.registry.disk.storage import LocalStorageBackend

write = transactions._write
def dying(path, data):
    if path.name == "committed":
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, data)
transactions._write = dying
with transactions.Transaction(LocalStorageBackend(sys.argv[1])) as tx:
    tx.write_json("never", "a.json")
    tx.delete("d.json")
    tx.write_dataframe(pd.DataFrame({"x": [0]}), "t.parquet", mode="append")
    tx.write_json("never", "new.json")
"""


@pytest.fixture
def half_done(storage):
    """The storage, opened before a process was killed that had all in place and had not ended."""
    command = [sys.executable, "-c", KILLED_BEFORE_THE_END, str(storage.root)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert storage.read_json("a.json") == "never"
    return storage


@pytest.mark.fault
def test_what_others_wrote_after_a_kill_is_not_undone(half_done, tmp_path):
    half_done.write_json("acknowledged", "a.json")
    half_done.write_json("too", "d.json")
    half_done.write_json("as well", "new.json")
    again = LocalStorageBackend(half_done.root)
    found = {path: again.read_json(path) for path in ("a.json", "d.json", "new.json")}
    assert found == {"a.json": "acknowledged", "d.json": "too", "new.json": "as well"}
    assert again.read_dataframe("t.parquet")["x"].tolist() == [1]


@pytest.mark.fault
@pytest.mark.parametrize("kind", [Transaction, SafeTransaction])
def test_what_a_kill_left_half_done_is_undone_before_others_add_to_it(half_done, kind):
    with kind(half_done) as tx:
        tx.write_dataframe(pd.DataFrame({"x": [2]}), "t.parquet", mode="append")
    assert half_done.read_dataframe("t.parquet")["x"].tolist() == [1, 2]
    assert half_done.read_json("a.json") == "old"


@pytest.mark.fault
def test_what_a_kill_left_half_done_is_undone_before_rows_are_appended(half_done):
    half_done.write_dataframe(pd.DataFrame({"x": [2]}), "t.parquet", mode="append")
    assert half_done.read_dataframe("t.parquet")["x"].tolist() == [1, 2]
    assert half_done.read_json("a.json") == "old"


def test_nobody_comes_between_a_commit_that_fails_and_its_undoing(storage, monkeypatch):
    held = []
    write, undo = transactions._write, transactions.undo

    def full(path, data):
        if path.name == "committed":
            raise OSError(errno.ENOSPC, "no space")
        write(path, data)

    def undone(root, folder):
        held.append(storage.lock.is_acquired)
        undo(root, folder)

    monkeypatch.setattr(transactions, "_write", full)
    monkeypatch.setattr(transactions, "undo", undone)
    with pytest.raises(StorageError, match="undone"), Transaction(storage) as tx:
        tx.write_json("new", "a.json")
    assert held == [True]
    assert not storage.lock.is_acquired
    assert storage.read_json("a.json") == "old"


def test_an_unknown_mode_is_refused_and_replaces_nothing(tmp_path):
    storage = LocalStorageBackend(tmp_path / "s")
    storage.write_dataframe(pd.DataFrame({"a": [1]}), "t.parquet")
    with (
        pytest.raises(InvalidValueError, match="mode='Append'"),
        Transaction(storage) as transaction,
    ):
        transaction.write_dataframe(pd.DataFrame({"a": [2]}), "t.parquet", mode="Append")
    assert storage.read_dataframe("t.parquet")["a"].tolist() == [1]


def test_paths_of_a_transaction_may_be_of_pathlib(tmp_path):
    storage = LocalStorageBackend(tmp_path / "s")
    storage.write_json(1, "old.json")
    with Transaction(storage) as transaction:
        transaction.write_json(2, pathlib.PurePath("a", "new.json"))
        transaction.delete(pathlib.PurePath("old.json"))
    assert storage.list_paths() == ["a/new.json"]
