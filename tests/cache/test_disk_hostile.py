"""A folder that another user has prepared: nothing outside of it is touched, and no raw error comes of it."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest

from ops.cache import DiskCache
from ops.cache.disk.hints import Deletions, write_hint
from ops.cache.disk.index import SEGMENT_SHIFT, BlobRef, Index
from ops.cache.disk.records import Flag, pack
from ops.cache.errors import UnsuitableFolderError
from ops.cache.own_files import can_be_mapped
from ops.foundation.errors import ValidationError

KIB = 1 << 10


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A file of this user outside of every cache."""
    path = tmp_path / "home" / "precious.txt"
    path.parent.mkdir()
    path.write_bytes(b"mine\n")
    return path


def filled(folder: Path) -> None:
    """Make a cache of several segments."""
    with DiskCache(folder, max_bytes=1024 * KIB) as cache:
        for number in range(80):
            cache.set(f"k{number}", "x" * 1000)


NAMES = {
    "a path upwards": "../../home/precious.txt",
    "an absolute path": "/",
    "upper case": "A" * 24,
    "too short": "a" * 23,
    "a newline at the end": "a" * 24 + "\n",
    "other digits": "٣" * 24,
}


@pytest.mark.parametrize("what", NAMES)
def test_a_hint_that_names_a_file_by_anything_but_24_hex_digits_is_of_no_use(
    tmp_path: Path, precious: Path, what: str
) -> None:
    folder = tmp_path / "cache"
    filled(folder)
    index = Index()
    index.set(b"sk1", 1 << SEGMENT_SHIFT, b"", BlobRef(NAMES[what], 5))
    write_hint(folder / "00000001.hint", index, 1, Deletions(), 1 << 20)
    with DiskCache(folder, max_bytes=1024 * KIB) as cache:
        assert cache["k1"] == "x" * 1000  # the segment was read instead
        cache.set("k1", "mine")
        cache.clear()
    assert precious.read_bytes() == b"mine\n"


@pytest.mark.parametrize(
    "rest", [b"[]", b"{}", b'{"bulk": 5}', b"[" * 100_000, b"\xff", b'{"bulk": [["tag"]]}']
)
def test_a_hint_of_any_other_shape_is_of_no_use(
    tmp_path: Path, rest: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("ops.cache.disk.hints.json.dumps", lambda _, **__: rest.decode("latin-1"))
        write_hint(tmp_path / "00000001.hint", Index(), 1, Deletions(), 1 << 20)
    with DiskCache(tmp_path, max_bytes=1024 * KIB) as cache:
        assert cache["k1"] == "x" * 1000


@pytest.mark.parametrize("name", ["00000001.seg", "cache.json", "evict.lock", "keys.lock", "blobs"])
@pytest.mark.parametrize("kind", ["a link", "a link to nothing"])
def test_a_link_in_the_folder_is_refused_and_not_followed(
    tmp_path: Path, precious: Path, name: str, kind: str
) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    target = precious if kind == "a link" else tmp_path / "home" / "new"
    (folder / name).symlink_to(target)

    def use() -> None:
        with DiskCache(folder) as cache:
            cache.set("k", "\nattacker-visible\n")
            cache.get_or_compute("other", lambda: 1)
            cache.set("large", bytes(300 * KIB))

    with pytest.raises(UnsuitableFolderError, match="symbolic link"):
        use()
    assert precious.read_bytes() == b"mine\n"
    assert not (tmp_path / "home" / "new").exists()


def test_a_second_name_of_a_file_elsewhere_is_not_appended_to(
    tmp_path: Path, precious: Path
) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    os.link(precious, folder / "00000001.seg")
    with pytest.raises(UnsuitableFolderError, match="hard link"):
        DiskCache(folder)
    assert precious.read_bytes() == b"mine\n"


def test_a_subfolder_for_large_values_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "cache", tmp_path / "elsewhere"
    elsewhere.mkdir()
    with DiskCache(folder) as cache:
        (folder / "blobs").mkdir()
        for number in range(256):
            (folder / "blobs" / f"{number:02x}").symlink_to(elsewhere)
        with pytest.raises(UnsuitableFolderError, match="symbolic link"):
            cache.set("large", bytes(300 * KIB))
    assert not list(elsewhere.iterdir())


def test_a_pipe_in_the_place_of_a_segment_makes_nobody_wait(tmp_path: Path) -> None:
    with DiskCache(tmp_path):
        pass
    (tmp_path / "00000001.seg").unlink()
    os.mkfifo(tmp_path / "00000001.seg")
    with pytest.raises((UnsuitableFolderError, OSError)):
        DiskCache(tmp_path)


def test_records_that_no_writer_makes_are_skipped(tmp_path: Path) -> None:
    with DiskCache(tmp_path) as cache:
        cache.set("k", 1)
        seed = cache._log.segments.seed(1)
        forged = [
            pack(seed, Flag.BLOB, b"sa", b"short", 0.0, b""),
            pack(seed, Flag.MOVED, b"sb", b"x", 0.0, b""),
            pack(seed, Flag.MOVED | Flag.BLOB, b"sc", b"x" * 20, 0.0, b""),
            pack(seed, 0xF, b"sd", b"x", 0.0, b""),
            pack(seed, 0, b"p" + b"(" * 5000, b"x", 0.0, b""),
            pack(seed, 1, b"s\xff", b"x", 0.0, b""),
        ]
        with (tmp_path / "00000001.seg").open("ab") as file:
            file.write(b"".join(forged))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert "k" in list(cache)
            assert [cache.get(key, "miss") for key in ("a", "b", "c", "d")] == ["miss"] * 4
            cache.check(repair=True)
            cache.clear()


def test_a_file_that_others_can_write_to_is_read_and_not_mapped(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.touch(0o600)
    assert can_be_mapped(path)
    path.chmod(0o666)
    assert not can_be_mapped(path)
    (tmp_path / "link").symlink_to(path)
    assert not can_be_mapped(tmp_path / "link")


def test_the_key_of_this_user_never_lies_in_the_folder_of_a_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPS_SERIALIZE_USER_KEY_FILE", str(tmp_path / "cache" / "k"))
    with pytest.raises(ValidationError, match="folder of its own"):
        DiskCache(tmp_path / "cache")
    DiskCache(tmp_path / "other").close()
