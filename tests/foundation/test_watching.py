"""Watching a folder, by polling and by system events."""

import importlib.util
import logging
import os
import queue
import threading

import pytest

from ops.foundation import atomic_write, watch_directory

WAYS = [
    pytest.param(0.005, id="polling"),
    pytest.param(
        None,
        id="system",
        marks=pytest.mark.skipif(
            importlib.util.find_spec("watchfiles") is None, reason="watchfiles is not installed"
        ),
    ),
]


@pytest.fixture
def seen():
    return queue.SimpleQueue()


@pytest.fixture(params=WAYS)
def watch(request, tmp_path, seen):
    def start(callback=None, **options):
        return watch_directory(tmp_path, callback or seen.put, poll=request.param, **options)

    return start


@pytest.fixture
def put(tmp_path, tmp_path_factory):
    """Put a file into the folder in one step; a write would be a creation and a modification."""
    staging = tmp_path_factory.mktemp("staging") / "file"

    def put(name, text):
        staging.write_text(text)
        staging.replace(tmp_path / name)

    return put


def next_of(seen):
    change = seen.get(timeout=60)
    return str(change.kind), change.path.name


def test_what_happens_after_the_call_is_reported_in_its_order(watch, seen, put, tmp_path):
    with watch() as handle:
        put("a", "1")
        assert next_of(seen) == ("created", "a")
        put("a", "2")
        assert next_of(seen) == ("modified", "a")
        (tmp_path / "a").unlink()
        assert next_of(seen) == ("deleted", "a")
        assert handle.is_running
    assert not handle.is_running
    assert seen.empty()


def test_a_replaced_file_of_the_same_size_is_modified_and_its_temporary_file_is_not_seen(
    watch, seen, tmp_path
):
    (tmp_path / "a").write_text("1")
    with watch():
        with atomic_write(tmp_path / "a") as file:
            file.write("2")
        assert next_of(seen) == ("modified", "a")
    assert seen.empty()


def test_folders_below_are_watched_only_when_recursive(watch, seen, tmp_path):
    (tmp_path / "below").mkdir()
    for recursive in (True, False):
        with watch(recursive=recursive):
            (tmp_path / "below" / f"{recursive}").touch()
            (tmp_path / f"top-{recursive}").touch()
            names = {next_of(seen)[1] for _ in range(2 if recursive else 1)}
        assert names == ({"True", "top-True"} if recursive else {"top-False"})


def test_only_the_events_that_were_asked_for_are_reported(watch, seen, tmp_path):
    (tmp_path / "old").touch()
    with watch(events=("deleted",)):
        (tmp_path / "new").touch()
        (tmp_path / "old").unlink()
        assert next_of(seen) == ("deleted", "old")
    assert seen.empty()


def test_an_error_of_the_callback_ends_the_watch_and_is_raised_by_stop(watch, tmp_path):
    handle = watch(lambda change: 1 / 0)
    (tmp_path / "a").touch()
    handle._thread.join(60)
    assert not handle.is_running
    with pytest.raises(ZeroDivisionError):
        handle.stop()
    handle.stop()


def test_the_error_of_the_block_is_not_hidden_by_that_of_the_callback(watch, tmp_path):
    with pytest.raises(KeyError), watch(lambda change: 1 / 0) as handle:  # noqa: PT012 - two steps
        (tmp_path / "a").touch()
        handle._thread.join(60)
        raise KeyError


def test_a_callback_may_stop_its_own_watch(watch, tmp_path):
    handles = queue.SimpleQueue()
    handle = watch(lambda change: handles.get().stop())
    handles.put(handle)
    (tmp_path / "a").touch()
    handle._thread.join(60)
    assert not handle.is_running


def test_arguments_that_make_no_sense_are_refused(tmp_path):
    with pytest.raises(NotADirectoryError):
        watch_directory(tmp_path / "none", print)
    with pytest.raises(ValueError, match="poll=0"):
        watch_directory(tmp_path, print, poll=0)
    with pytest.raises(ValueError, match="moved"):
        watch_directory(tmp_path, print, events=("moved",))


def test_a_folder_below_that_may_not_be_read_does_not_end_the_watch(
    watch, seen, put, tmp_path, monkeypatch
):
    closed = tmp_path / "closed"
    closed.mkdir()
    scan = os.scandir

    def guarded(path):
        if str(path) == str(closed):
            raise PermissionError(path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", guarded)
    with watch():
        put("a", "1")
        assert next_of(seen) == ("created", "a")


def test_a_watch_that_its_callback_ends_says_so_at_once(watch, put, caplog):
    ended = threading.Event()

    def broken(_):
        raise OSError("callback: hunter2")

    monitor = logging.Handler()
    monitor.emit = lambda record: ended.set()
    logger = logging.getLogger("ops.foundation.watching")
    logger.addHandler(monitor)
    try:
        handle = watch(broken)
        put("a", "1")
        assert ended.wait(60)
    finally:
        logger.removeHandler(monitor)
    with pytest.raises(OSError, match="callback"):
        handle.stop()
    assert "has ended with OSError" in caplog.text
    assert "hunter2" not in caplog.text  # the text of an error may hold a secret


def test_a_folder_swapped_behind_links_changes_the_files_that_they_lead_to(tmp_path):
    """As Kubernetes updates the files of a ConfigMap or a Secret."""
    (tmp_path / "..v1").mkdir()
    (tmp_path / "..v1/app.yaml").write_text("a: 1")
    (tmp_path / "..data").symlink_to("..v1")
    (tmp_path / "app.yaml").symlink_to("..data/app.yaml")
    changes = queue.SimpleQueue()
    with watch_directory(tmp_path, changes.put, poll=0.01, recursive=False):
        (tmp_path / "..v2").mkdir()
        (tmp_path / "..v2/app.yaml").write_text("a: 2")
        (tmp_path / "..tmp").symlink_to("..v2")
        os.replace(tmp_path / "..tmp", tmp_path / "..data")
        change = changes.get(timeout=60)
    assert (change.kind, change.path.name) == ("modified", "app.yaml")
    assert changes.empty()


def test_links_that_lead_nowhere_or_in_a_circle_are_files_of_their_own(tmp_path):
    changes = queue.SimpleQueue()
    with watch_directory(tmp_path, changes.put, poll=0.01):
        (tmp_path / "circle").symlink_to("circle")
        assert changes.get(timeout=60).path.name == "circle"
        (tmp_path / "nowhere").symlink_to("absent")
        assert changes.get(timeout=60).path.name == "nowhere"
        (tmp_path / "folder").symlink_to(tmp_path.parent)
        (tmp_path / "last").write_text("x")
        assert changes.get(timeout=60).path.name == "last"


@pytest.mark.parametrize("poll", [None, 0.01])
def test_a_name_that_is_no_utf_8_does_not_end_the_watch(tmp_path, poll):
    name = os.fsdecode(b"caf\xe9.txt")
    changes = queue.SimpleQueue()
    with watch_directory(tmp_path, changes.put, poll=poll) as watch:
        try:
            (tmp_path / name).write_text("x")
        except OSError:
            pytest.skip("needs a file system that takes any bytes as names")
        seen = {changes.get(timeout=60).path.name}
        (tmp_path / "after").write_text("x")
        while "after" not in seen:
            seen.add(changes.get(timeout=60).path.name)
        assert watch.is_running
    assert seen == {name, "after"}
