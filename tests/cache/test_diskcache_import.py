"""Importing folders that diskcache 5.6.3 wrote: what is found, what is not run, and going on after a kill."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ops.cache import DiskCache, UnsuitableFolderError
from ops.cache.__main__ import main
from ops.cache.diskcache.folders import stores_in
from ops.cache.diskcache.keys import from_stored
from ops.cache.diskcache.transfer import import_diskcache
from ops.foundation import ValidationError

Child = Callable[..., "subprocess.Popen[str]"]
DATA = Path(__file__).parent / "data"
NAME = "diskcache-5.6.3"


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("foreign")
    with tarfile.open(DATA / f"{NAME}.tar.gz") as tar:
        tar.extractall(root, filter="data")
    return root


@pytest.fixture
def expected(foreign: Path) -> dict[str, Any]:
    assert foreign
    found: dict[str, Any] = json.loads((DATA / f"{NAME}.expected.json").read_text())
    return found


@pytest.fixture
def target(tmp_path: Path) -> Iterator[DiskCache]:
    with DiskCache(tmp_path / "target") as made:
        yield made


def is_right(value: Any, wanted: dict[str, Any]) -> bool:
    if type(value).__name__ != wanted["type"]:
        return False
    if "value_repr" in wanted:
        return bool(repr(value) == wanted["value_repr"])
    if "repr_sha256" in wanted:
        return bool(hashlib.sha256(repr(value).encode()).hexdigest() == wanted["repr_sha256"])
    data = value.encode() if isinstance(value, str) else value
    return bool(hashlib.sha256(data).hexdigest() == wanted["sha256"])


def test_every_living_entry_is_found_when_pickles_may_run(
    foreign: Path, expected: dict[str, Any], target: DiskCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(foreign))  # shop.py, which has the dataclass
    before = {p: p.stat().st_mtime_ns for p in (foreign / "cache").rglob("*")}
    report = import_diskcache(foreign / "cache", target, pickles="run")
    assert before == {p: p.stat().st_mtime_ns for p in (foreign / "cache").rglob("*")}
    assert (report.imported, report.expired, report.skipped) == (67, 3, {})
    assert len(target) == len(list(target)) == 67
    found = {repr(from_stored(key)): (key, value) for key, value in target.items()}
    expired = set(expected["cache"]["expired_at_packing"])
    for item in expected["cache"]["items"]:
        name = item["key_repr"]
        if name.strip("'") in expired:
            assert name not in found
        elif name == "'plain/nan'":  # diskcache lost it
            assert found[name][1] is None
        else:
            assert is_right(found[name][1], item["value"]), name
    assert [target[f"queue-50000000000000{n}"] for n in range(3)] == ["a", "b", "c"]
    assert target[2.5] == "d"
    _, left = target.get_with_ttl("expire/far")
    assert left is not None
    assert left > 1e8
    assert target.delete_tag("group a") == 2
    assert target.delete_tag("7") == target.delete_tag("bt") == 1


def test_no_pickle_is_run_unless_that_is_asked_for(foreign: Path, target: DiskCache) -> None:
    report = import_diskcache(foreign / "cache", target)
    assert (report.imported, report.expired, sum(report.skipped.values())) == (58, 3, 9)
    assert target["plain/dict"] == {"a": 1, "b": {"c": [1, 2]}}
    assert target[("a", None, 2.5)] == "value under ('a', None, 2.5)"
    assert "dataclass/order" not in target
    again = import_diskcache(foreign / "cache", target, pickles="skip")
    assert again.imported == 42


def test_shards_and_the_stores_inside_them_are_one_cache(
    foreign: Path, expected: dict[str, Any], target: DiskCache
) -> None:
    assert import_diskcache(foreign / "fanout", target).is_complete
    assert {k: target[k] for k, _, _ in expected["fanout"]["items"]} == {
        k: v for k, v, _ in expected["fanout"]["items"]
    }
    assert len(target) == 41
    assert target.namespace("cache").namespace("sub")["inner"] == "cache inside"
    assert dict(target.namespace("index").namespace("ix").items()) == {"p": "q"}
    assert target.delete_tag("even") == 20


def test_a_log_that_was_not_written_back_counts(
    foreign: Path, expected: dict[str, Any], target: DiskCache
) -> None:
    assert import_diskcache(foreign / "killed", target).imported == 21
    assert {k: target[k] for k in expected["killed"]["items"]} == expected["killed"]["items"]


def test_index_deque_and_json_keep_order_and_content(
    foreign: Path, expected: dict[str, Any], tmp_path: Path
) -> None:
    with DiskCache(tmp_path / "index") as index:
        import_diskcache(foreign / "index", index)
        wanted = expected["index"]["ordered_items"]
        assert [repr(key) for key in index] == [key for key, _ in wanted]
        assert all(
            is_right(v, w) for v, (_, w) in zip((v for _, v in index.items()), wanted, strict=True)
        )
    with DiskCache(tmp_path / "deque") as deque:
        import_diskcache(foreign / "deque", deque)
        values = [deque[key] for key in sorted(deque)]
        assert all(
            is_right(*pair) for pair in zip(values, expected["deque"]["in_order"], strict=True)
        )
    with DiskCache(tmp_path / "json") as plain:
        import_diskcache(foreign / "json_cache", plain)
        assert plain["a"] == {"x": [1, 2.5, None, True, "é"]}
        assert plain[("list", "key")] == 5
        assert plain["big"] == list(range(9000))


def test_the_command_says_what_was_skipped_and_goes_on(
    foreign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["import-diskcache", str(foreign / "cache"), str(tmp_path / "t")]
    assert main([*arguments, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["imported"], found["expired"], found["done_before"]) == (58, 3, 0)
    assert main(arguments) == 0
    assert "0 imported, 0 expired, 70 done before" in capsys.readouterr().out
    assert main(["import-diskcache", str(tmp_path), str(tmp_path / "t")]) == 2
    assert "no cache.db" in capsys.readouterr().err


def made_folder(folder: Path, rows: list[tuple[Any, ...]]) -> Path:
    folder.mkdir(parents=True)
    with sqlite3.connect(folder / "cache.db") as connection:
        connection.execute("CREATE TABLE Settings (key TEXT NOT NULL UNIQUE, value)")
        connection.execute(
            "CREATE TABLE Cache (rowid INTEGER PRIMARY KEY, key BLOB, raw INTEGER, expire_time REAL,"
            " tag BLOB, mode INTEGER, filename TEXT, value BLOB)"
        )
        connection.executemany(
            "INSERT INTO Cache (key, raw, expire_time, tag, mode, filename, value)"
            " VALUES (?, ?, NULL, NULL, ?, ?, ?)",
            rows,
        )
    connection.close()
    return folder


class Evil:
    ran = False

    def __reduce__(self) -> Any:
        return (setattr, (Evil, "ran", True))


def test_a_hostile_folder_reads_no_file_outside_and_runs_nothing(
    tmp_path: Path, target: DiskCache
) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    folder = made_folder(
        tmp_path / "evil",
        [
            ("up", 1, 2, "../secret", None),
            ("absolute", 1, 2, str(tmp_path / "secret"), None),
            ("link", 1, 2, "link.val", None),
            ("missing", 1, 2, "ab/cd.val", None),
            ("code", 1, 4, None, pickle.dumps(Evil())),
            (pickle.dumps(Evil()), 0, 1, None, 1),
            ("torn", 1, 4, None, pickle.dumps([1, 2, 3])[:-3]),
            ("fine", 1, 4, None, pickle.dumps({"a": (1, {2}, frozenset((3,)), b"x", None, 1.5)})),
        ],
    )
    (folder / "link.val").symlink_to(tmp_path / "secret")
    report = import_diskcache(folder, target)
    assert not Evil.ran
    assert (report.imported, sum(report.skipped.values())) == (1, 7)
    assert list(target) == ["fine"]
    assert target["fine"] == {"a": (1, {2}, frozenset((3,)), b"x", None, 1.5)}


def test_what_is_no_folder_of_diskcache_is_refused(tmp_path: Path, target: DiskCache) -> None:
    with pytest.raises(UnsuitableFolderError, match=r"no cache\.db"):
        import_diskcache(tmp_path / "nowhere", target)
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd/cache.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(UnsuitableFolderError, match="no database of diskcache"):
        import_diskcache(tmp_path / "odd", target)
    assert len(stores_in(tmp_path / "odd")) == 1


def test_the_old_folder_is_no_target(
    foreign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(foreign, tmp_path / "copy")
    folder = next(path.parent for path in (tmp_path / "copy").rglob("cache.db"))
    before = sorted(path.name for path in folder.iterdir())
    assert main(["import-diskcache", str(folder), str(folder)]) == 2
    assert "written by diskcache itself" in capsys.readouterr().err
    assert sorted(path.name for path in folder.iterdir()) == before
    with (
        DiskCache(folder / "below") as below,
        pytest.raises(ValidationError, match="of its own"),
    ):
        import_diskcache(folder, below)


IMPORTER = """
import sys
from ops.cache import DiskCache
from ops.cache.diskcache.transfer import import_diskcache
def show(seen, total):
    print(seen, flush=True)
    if sys.argv[3] == "slow":
        sys.stdin.readline()
with DiskCache(sys.argv[2]) as target:
    print(import_diskcache(sys.argv[1], target, progress=show).imported, flush=True)
"""


@pytest.mark.fault
def test_an_import_that_was_killed_goes_on_and_imports_nothing_twice(
    tmp_path: Path, child: Child
) -> None:
    rows = [(f"k{n}", 1, 1, None, n) for n in range(1000)]
    folder = made_folder(tmp_path / "source", rows)
    first = subprocess.Popen(
        [sys.executable, "-c", IMPORTER, str(folder), str(tmp_path / "t"), "slow"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert first.stdout
    assert first.stdin
    assert first.stdout.readline() == "200\n"
    first.send_signal(signal.SIGKILL)
    first.communicate()
    second = child(IMPORTER, folder, tmp_path / "t", "fast")
    assert second.communicate(timeout=60)[0].split() == ["400", "600", "800", "1000", "800"]
    with DiskCache(tmp_path / "t") as target:
        assert dict(target.items()) == {f"k{n}": n for n in range(1000)}
    shutil.rmtree(folder)
