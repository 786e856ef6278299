"""Names read from disk: what becomes a path lies below its root, and no link leads it elsewhere."""

import errno
import os
import pickle
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.foundation import PathEscapesRootError, RelativePath
from ops.foundation.paths import is_there, listed, walked

needs_posix = pytest.mark.skipif(os.name != "posix", reason="needs links and FIFOs")


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "/etc/passwd",
        "a/../../b",
        "../b",
        "a/..",
        "a//b",
        "a/./b",
        "a/",
        "./a",
        "a\0b",
        "C:/x",
        "c:x",
        "\\\\server\\share",
        "..\\x",
        "a\\..\\b",
        "a/.. /b",
        "con",
        "a/NUL.txt",
        "   ",
    ],
)
def test_a_name_that_is_not_inside_or_has_a_second_spelling_is_refused(text):
    with pytest.raises(PathEscapesRootError):
        RelativePath(text)


@pytest.mark.parametrize("text", [None, 3, b"a", Path("a"), ["a"]])
def test_what_is_no_text_is_no_name(text):
    with pytest.raises(TypeError, match="text"):
        RelativePath(text)


@given(st.text(max_size=30))
def test_whatever_is_accepted_lies_below_its_root(text):
    try:
        name = RelativePath(text)
    except PathEscapesRootError:
        return
    below = os.path.normpath(os.path.join("/root/folder", *name.parts))
    assert below.startswith("/root/folder/")
    assert (str(name), RelativePath(str(name)), hash(RelativePath(text))) == (
        text,
        name,
        hash(name),
    )


def test_a_component_has_no_separator_of_any_system():
    assert RelativePath.component("weights.bin").parts == ("weights.bin",)
    for text in ("a/b", "a\\b"):
        with pytest.raises(PathEscapesRootError, match="separator"):
            RelativePath.component(text)


def test_names_are_immutable_ordered_and_checked_again_when_they_are_unpickled():
    name = RelativePath("models") / "3" / RelativePath("a/w.bin")
    assert (str(name), name.name, str(name.parent)) == ("models/3/a/w.bin", "w.bin", "models/3/a")
    assert RelativePath("w").parent is None
    assert pickle.loads(pickle.dumps(name)) == name
    assert sorted([RelativePath("b"), RelativePath("a/z"), RelativePath("a")]) == [
        RelativePath("a"),
        RelativePath("a/z"),
        RelativePath("b"),
    ]
    assert name != str(name)
    with pytest.raises(AttributeError):
        name.parts = ("..",)
    with pytest.raises(AttributeError):
        del name.parts
    with pytest.raises(TypeError):
        os.fspath(name)
    evil = pickle.dumps(RelativePath("aaaa")).replace(b"aaaa", b"../a")
    with pytest.raises(PathEscapesRootError):
        pickle.loads(evil)


def test_a_path_below_a_root_gets_its_name_and_any_other_is_refused(tmp_path):
    assert str(RelativePath.of(tmp_path / "a" / "b", tmp_path)) == "a/b"
    for outside in (tmp_path, tmp_path.parent, tmp_path / ".." / "x"):
        with pytest.raises(PathEscapesRootError):
            RelativePath.of(outside, tmp_path)


def test_a_name_lies_where_its_root_is_now(tmp_path):
    name = RelativePath("a/b")
    (tmp_path / "one/a").mkdir(parents=True)
    (tmp_path / "one/a/b").write_bytes(b"x")
    (tmp_path / "one").rename(tmp_path / "two")
    assert name.below(tmp_path / "two") == tmp_path / "two" / "a" / "b"
    assert name.read_bytes(tmp_path / "two") == b"x"
    assert name.below(tmp_path / "absent") == tmp_path / "absent" / "a" / "b"
    with pytest.raises(FileNotFoundError):
        name.open(tmp_path / "one")
    with pytest.raises(FileNotFoundError, match="two/a/c"):
        RelativePath("a/c").open(tmp_path / "two")


@needs_posix
@pytest.mark.parametrize("target", ["outside", "root/real"])
def test_a_link_below_the_root_is_refused_wherever_it_leads(tmp_path, target):
    root = tmp_path / "root"
    (root / "real").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / target / "file").write_text("x")
    (root / "folder").symlink_to(tmp_path / target)
    (root / "file").symlink_to(tmp_path / target / "file")
    for name in (RelativePath("folder/file"), RelativePath("file")):
        with pytest.raises(PathEscapesRootError, match="is a link"):
            name.below(root)
        with pytest.raises(PathEscapesRootError, match="is a link"):
            name.open(root)


@needs_posix
def test_the_root_itself_may_be_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real/file").write_text("x")
    (tmp_path / "root").symlink_to("real")
    assert RelativePath("file").read_bytes(tmp_path / "root") == b"x"
    assert RelativePath("file").below(tmp_path / "root").read_text() == "x"


@needs_posix
def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    for name in ("fifo", "folder"):
        with pytest.raises(PathEscapesRootError, match="no regular file"):
            RelativePath(name).open(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotADirectoryError):
        RelativePath("file/inner").open(tmp_path)


@needs_posix
def test_no_descriptor_is_left_when_a_name_is_refused(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/link").symlink_to("/")
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    for text in ("a/link/x", "a/absent", "a"):
        with pytest.raises((PathEscapesRootError, OSError)):
            RelativePath(text).open(tmp_path)
    after = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    assert after == before


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.ESTALE, errno.ENOMEM])
def test_what_could_not_be_looked_at_is_neither_there_nor_absent(
    tmp_path, monkeypatch, code
) -> None:
    def refuse(path, *_, **__):
        raise OSError(code, os.strerror(code), os.fspath(path))

    monkeypatch.setattr(os, "stat", refuse)
    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(OSError, match=re.escape(os.strerror(code))):
        is_there(tmp_path)
    with pytest.raises(OSError, match=re.escape(os.strerror(code))):
        listed(tmp_path)


def test_what_is_absent_is_not_there(tmp_path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "circle").symlink_to("circle")
    assert is_there(tmp_path / "file")
    assert is_there(tmp_path / "link", follow_links=False)
    for name in ("link", "circle", "absent", "file/below", "x" * 300, "nul\0"):
        assert not is_there(f"{tmp_path}/{name}")


def test_a_folder_is_listed_by_a_pattern_and_one_that_is_absent_is_empty(tmp_path) -> None:
    for name in ("b.log", "a.log", ".c.log", "a.log.tmp"):
        (tmp_path / name).touch()
    assert [path.name for path in listed(tmp_path, "*.log")] == [".c.log", "a.log", "b.log"]
    assert listed(tmp_path / "absent") == []


def test_a_folder_below_that_cannot_be_read_is_not_left_out(tmp_path, monkeypatch) -> None:
    for name in ("a/b", "c", "lost+found"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").touch()
    found = [(os.path.relpath(folder, tmp_path), names) for folder, names in walked(tmp_path, "c")]
    assert found == [(".", []), ("a", []), ("a/b", ["file"])]
    assert list(walked(tmp_path / "absent")) == []
    scandir = os.scandir

    def refuse(path):
        if os.fspath(path).endswith("/b"):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(OSError, match="Too many open files"):
        list(walked(tmp_path))
