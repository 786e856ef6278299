import errno
import os

import pytest

from ops.metrics_collect import Storage, StorageDirectory
from ops.metrics_collect.conformance import StorageBehaviour


class TestStorageDirectory(StorageBehaviour):
    @pytest.fixture
    def storage(self, tmp_path):
        return StorageDirectory(tmp_path / "objects")

    def test_it_is_a_storage(self, storage):
        assert isinstance(storage, Storage)

    def test_an_unfinished_file_of_a_crash_is_no_object(self, storage):
        storage.put("name", dict={})
        (storage.base_path / ".name.0123456789ab.tmp").write_bytes(b"half")
        assert storage.list() == ["name"]

    def test_what_killed_writers_left_is_removed_by_a_later_one(self, storage):
        storage.put("a/name", dict={})
        old, new = (storage.base_path / "a" / f".name.{n * 12}.tmp" for n in "01")
        for path in (old, new):
            path.write_bytes(b"half")
        os.utime(old, (0, 0))
        StorageDirectory(storage.base_path).put("a/other", dict={})
        assert (old.exists(), new.exists()) == (False, True)

    @pytest.mark.parametrize("code", [errno.EACCES, errno.EMFILE, errno.EIO])
    def test_a_folder_that_cannot_be_read_is_no_empty_one(self, storage, monkeypatch, code):
        storage.put("a/name", dict={})
        storage.put("name", dict={})
        scandir = os.scandir

        def refuse(path):
            if os.fspath(path).endswith("/a"):
                raise OSError(code, os.strerror(code), os.fspath(path))
            return scandir(path)

        monkeypatch.setattr(os, "scandir", refuse)
        with pytest.raises(OSError, match=os.strerror(code)):
            storage.list()
