"""Atomic writes and the guard of names."""

import errno
import os
import shutil
import stat
import struct
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.foundation import (
    PathEscapesRootError,
    atomic_write,
    copy_with_progress,
    safe_file_write,
    safe_join,
    temporary_directory,
)


def test_an_error_leaves_the_old_file_and_no_temporary_one(tmp_path):
    target = tmp_path / "a"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_write(target) as file:  # noqa: PT012 - two steps
        file.write("new")
        raise KeyboardInterrupt
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_new_file_has_the_mode_that_the_umask_gives(tmp_path):
    with atomic_write(tmp_path / "a") as file:
        file.write("x")
    (tmp_path / "b").write_text("x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o755])
def test_an_existing_mode_is_kept(tmp_path, mode):
    target = tmp_path / "a"
    target.write_text("x")
    target.chmod(mode)
    with atomic_write(target) as file:
        file.write("y")
    assert stat.S_IMODE(target.stat().st_mode) == mode


def test_a_link_stays_a_link_and_its_target_is_replaced(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    with atomic_write(tmp_path / "link", durable="full") as file:
        file.write("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_the_backup_has_the_old_content(tmp_path):
    safe_file_write(tmp_path / "a", "one")
    safe_file_write(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_text() == "two"
    assert (tmp_path / "a.bak").read_text() == "one"


def test_exclusive_mode_refuses_what_appeared_meanwhile(tmp_path):
    target = tmp_path / "a"
    with pytest.raises(FileExistsError), atomic_write(target, "x") as file:  # noqa: PT012 - two steps
        file.write("mine")
        target.write_text("theirs")
    assert target.read_text() == "theirs"
    assert os.listdir(tmp_path) == ["a"]


def test_a_link_to_a_folder_whose_name_begins_like_the_base_is_refused(tmp_path):
    (tmp_path / "base").mkdir()
    (tmp_path / "base2").mkdir()
    (tmp_path / "base/link").symlink_to(tmp_path / "base2")
    with pytest.raises(ValueError, match="a link leads to"):
        safe_join(tmp_path / "base", "link/x")


def acl(*entries):
    """An access ACL as Linux stores it, of (tag, rights, user or group)."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


NOBODY = 0xFFFFFFFF
# Owner rw; user 1002 rw; the owning group nothing; mask rw; others nothing.
FOR_ONE_USER = acl((1, 6, NOBODY), (2, 6, 1002), (4, 0, NOBODY), (16, 6, NOBODY), (32, 0, NOBODY))
ACCESS = "system.posix_acl_access"


@pytest.fixture
def guarded(tmp_path):
    path = tmp_path / "secret"
    path.write_text("old")
    try:
        os.setxattr(path, ACCESS, FOR_ONE_USER)
    except (OSError, AttributeError):
        pytest.skip("needs a file system with ACLs")
    return path


def test_an_acl_is_kept(guarded):
    before = os.getxattr(guarded, ACCESS), guarded.stat().st_mode
    with atomic_write(guarded) as file:
        file.write("new")
    assert (os.getxattr(guarded, ACCESS), guarded.stat().st_mode) == before


def test_where_an_acl_cannot_be_set_the_group_gets_what_its_own_entry_allows(guarded, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOTSUP, "no ACLs here")

    monkeypatch.setattr(os, "setxattr", refuse)
    with atomic_write(guarded) as file:
        file.write("new")
    assert stat.S_IMODE(guarded.stat().st_mode) == 0o600  # the mask, rw, is no right of the group


@pytest.mark.parametrize("call", ["listxattr", "getxattr"])
def test_an_acl_that_cannot_be_read_now_is_not_taken_for_none(guarded, monkeypatch, call):
    def refuse(*_):
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(OSError, match=os.strerror(errno.ENOMEM)), atomic_write(guarded) as file:
        file.write("new")
    monkeypatch.undo()
    assert os.getxattr(guarded, ACCESS)
    assert guarded.read_text() != "new"


def test_a_file_without_an_acl_gets_none_from_its_folder(guarded):
    plain = guarded.with_name("plain")
    plain.write_text("old")
    plain.chmod(0o640)
    os.setxattr(guarded.parent, "system.posix_acl_default", FOR_ONE_USER)
    with atomic_write(plain) as file:
        file.write("new")
    assert ACCESS not in os.listxattr(plain)
    assert stat.S_IMODE(plain.stat().st_mode) == 0o640


def test_extended_attributes_are_kept_but_for_those_of_the_content(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_text("old")
    try:
        os.setxattr(path, "user.origin", b"here")
    except (OSError, AttributeError):
        pytest.skip("needs a file system with extended attributes")
    if os.getuid() == 0:
        os.setxattr(path, "security.capability", struct.pack("<5I", 0x02000001, 1, 0, 0, 0))
    with atomic_write(path) as file:
        file.write("new")
    assert os.listxattr(path) == ["user.origin"]
    assert os.getxattr(path, "user.origin") == b"here"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_a_fifo_stays_one_and_its_reader_gets_what_was_written(tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with atomic_write(path) as file:
        file.write("grüße")
    assert os.read(reader, 100).decode() == "grüße"
    with pytest.raises(KeyError), atomic_write(path, "wb") as file:  # noqa: PT012 - two steps
        file.write(b"half")
        raise KeyError
    assert os.read(reader, 100) == b""
    os.close(reader)
    with pytest.raises(OSError, match="No such device"), atomic_write(path) as file:
        file.write("nobody reads")
    assert stat.S_ISFIFO(path.stat().st_mode)
    assert os.listdir(tmp_path) == ["fifo"]


@pytest.mark.skipif(not hasattr(os, "mknod") or os.getuid() != 0, reason="needs root")
def test_a_device_stays_one(tmp_path):
    path = tmp_path / "null"
    try:
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
        path.write_bytes(b"")
    except OSError:
        pytest.skip("devices cannot be made or used here")
    safe_file_write(path, b"x")
    copy_with_progress(__file__, path)
    assert stat.S_ISCHR(path.stat().st_mode)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["null"]


def test_a_folder_is_refused_before_the_block_runs(tmp_path):
    entered = False
    with pytest.raises(IsADirectoryError), atomic_write(tmp_path):
        entered = True
    assert not entered


def test_a_second_name_keeps_the_old_content(tmp_path):
    (tmp_path / "a").write_text("old")
    os.link(tmp_path / "a", tmp_path / "b")
    with atomic_write(tmp_path / "a") as file:
        file.write("new")
    assert ((tmp_path / "a").read_text(), (tmp_path / "b").read_text()) == ("new", "old")


@pytest.mark.parametrize(
    ("durable", "lines"),
    [
        ("none", ["rename a~ -> a"]),
        ("file", ["sync a~", "rename a~ -> a"]),
        ("full", ["sync a~", "rename a~ -> a", "sync ."]),
    ],
)
def test_the_content_is_flushed_before_the_name_and_the_name_before_the_call_returns(
    tmp_path, disk_events, durable, lines
):
    with atomic_write(tmp_path / "a", durable=durable) as file:
        file.write("x" * 100)
    assert disk_events.lines == lines
    assert [event.size for event in disk_events.of("sync") if event.path == "a~"] == [100] * (
        durable != "none"
    )


def test_an_exclusive_write_is_flushed_before_it_has_its_name(tmp_path, disk_events):
    with atomic_write(tmp_path / "a", "x", durable="full") as file:
        file.write("x")
    assert disk_events.lines == ["sync a~", "link a~ -> a", "remove a~", "sync ."]


KILLED = """
import os, signal, sys
from ops.foundation import atomic_write
with atomic_write(sys.argv[1]) as file:
    file.write("half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.fault
def test_a_killed_writer_leaves_the_old_content(tmp_path):
    target = tmp_path / "a"
    target.write_text("old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(target)], check=False)
    assert done.returncode == -9
    assert target.read_text() == "old"


TRAVERSALS = [
    "", ".", "..", "/", "/etc/passwd", "../x", "a/../../x", "a/..", "a\0b", "C:x", "c:\\x",
    "\\\\server\\share", "\\x", "..\\x", "a\\..\\x", "a/.. /x", "a/..../x", "nul", "a/CON.txt", "./",
]  # fmt: skip


@pytest.mark.parametrize("name", TRAVERSALS)
def test_names_that_could_lead_outside_are_refused(tmp_path, name):
    with pytest.raises(PathEscapesRootError):
        safe_join(tmp_path, name)


def test_a_missing_folder_is_named_by_the_path_that_was_asked_for(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, atomic_write(tmp_path / "none" / "file"):
        pass
    assert caught.value.filename == str(tmp_path / "none" / "file")


def test_a_relative_path_means_the_folder_of_the_moment_it_was_given(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with atomic_write("file") as file:
        file.write("here")
        os.chdir("elsewhere")
    assert (tmp_path / "file").read_text() == "here"


def test_below_a_folder_that_is_a_link_files_are_replaced_too(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "folder").symlink_to("real")
    with atomic_write(tmp_path / "folder" / "file") as file:
        file.write("there")
    assert (tmp_path / "real" / "file").read_text() == "there"


def test_a_link_that_leads_outside_is_refused_and_one_inside_is_not(tmp_path):
    base = tmp_path / "base"
    (base / "in").mkdir(parents=True)
    (base / "out").symlink_to(tmp_path)
    (base / "near").symlink_to("in")
    with pytest.raises(PathEscapesRootError):
        safe_join(base, "out/x")
    assert safe_join(base, "near/x") == base / "near" / "x"


@given(st.text(alphabet="ab./\\: \0C~", max_size=12))
def test_whatever_is_accepted_lies_inside(name):
    try:
        path = safe_join("/nowhere/base", name)
    except PathEscapesRootError:
        return
    assert os.path.normpath(path).startswith("/nowhere/base/")


def test_a_temporary_directory_is_private_and_gone_afterwards(tmp_path):
    with pytest.raises(KeyError), temporary_directory("job-", tmp_path) as folder:  # noqa: PT012 - two steps
        assert folder.name.startswith("job-")
        assert folder.stat().st_mode & 0o077 == 0 or os.name != "posix"
        (folder / "below").mkdir()
        (folder / "below" / "f").touch()
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    with temporary_directory(parent=tmp_path, keep=True) as folder:
        pass
    assert folder.is_dir()


def test_a_name_as_long_as_the_system_allows_is_written_and_backed_up(tmp_path):
    target = tmp_path / ("日" * 83)  # 249 bytes of 255
    safe_file_write(target, "one", backup=False)
    assert target.read_text() == "one"


@pytest.mark.parametrize("backup", [False, True])
def test_a_private_file_is_private_while_it_is_being_rewritten(tmp_path, monkeypatch, backup):
    target = tmp_path / "secret"
    target.touch(0o600)
    seen = set()
    copied = shutil.copyfile

    def watched(source, copy, **options):
        seen.add(stat.S_IMODE(os.stat(copy).st_mode))
        return copied(source, copy, **options)

    monkeypatch.setattr(shutil, "copyfile", watched)
    with atomic_write(target, backup=backup):
        seen |= {stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir()}
    assert seen == {0o600}


@pytest.mark.parametrize("name", ["C:x", "a/C:x", "a\\C:\\x"])
def test_a_drive_letter_is_refused_wherever_windows_would_see_it(tmp_path, name):
    with pytest.raises(PathEscapesRootError, match="drive letter"):
        safe_join(tmp_path, name)


@pytest.mark.fault
@pytest.mark.skipif(os.name == "nt", reason="modes of POSIX")
def test_a_killed_copy_of_a_private_file_is_private(tmp_path):
    program = """
import os, sys
from ops.foundation import file_listing
file_listing.shutil.copystat = lambda *_: os.kill(os.getpid(), 9)
file_listing.copy_with_progress(*sys.argv[1:])
"""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_text("secret")
    source.chmod(0o600)
    command = [sys.executable, "-c", program, str(source), str(target)]
    assert subprocess.run(command, check=False).returncode == -9
    assert target.read_text() == "secret"
    assert target.stat().st_mode & 0o777 == 0o600
