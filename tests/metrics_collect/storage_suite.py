"""The behaviour of every storage; a test module derives from it and gives a `storage` fixture."""

import io
import json
import os

import pytest

from ops.foundation.errors import PathEscapesRootError
from ops.metrics_collect import ObjectExists, ObjectNotFound, ParameterError


class StorageSuite:
    def test_a_dict_is_stored_as_json(self, storage):
        storage.put("a/b.json", dict={"ä": 1})
        with storage.get("a/b.json") as path, open(path, encoding="utf-8") as file:
            assert json.load(file) == {"ä": 1}

    def test_a_file_and_a_file_object_are_stored_byte_for_byte(self, storage, tmp_path):
        source = tmp_path / "source"
        source.write_bytes(b"\0\xff" * 1000)
        storage.put("by-name", filename=source)
        storage.put("by-object", fileobj=io.BytesIO(b"\0\xff" * 1000))
        for name in ("by-name", "by-object"):
            with storage.get(name) as path, open(path, "rb") as file:
                assert file.read() == b"\0\xff" * 1000

    @pytest.mark.parametrize("sources", [{}, {"dict": {}, "filename": "x"}])
    def test_put_takes_exactly_one_source(self, storage, sources):
        with pytest.raises(ParameterError, match="exactly one"):
            storage.put("name", **sources)
        assert not storage.exists("name")

    def test_put_replaces_unless_told_to_create_once(self, storage):
        storage.put("name", dict={"v": 1})
        storage.put("name", dict={"v": 2})
        with pytest.raises(ObjectExists):
            storage.put("name", dict={"v": 3}, overwrite=False)
        with storage.get("name") as path, open(path) as file:
            assert json.load(file) == {"v": 2}

    def test_what_get_gives_is_private_and_vanishes(self, storage):
        storage.put("name", dict={"v": 1})
        with storage.get("name") as path, open(path, "w") as file:
            file.write("scribble")
        with pytest.raises(FileNotFoundError):
            os.stat(path)
        with storage.get("name") as again, open(again) as file:
            assert json.load(file) == {"v": 1}

    def test_a_missing_object_is_a_key_error(self, storage):
        for call in (storage.remove, lambda n: storage.get(n).__enter__()):
            with pytest.raises(ObjectNotFound, match="no 'missing'") as caught:
                call("missing")
            assert isinstance(caught.value, KeyError)

    def test_remove_removes(self, storage):
        storage.put("name", dict={})
        assert storage.exists("name")
        storage.remove("name")
        assert not storage.exists("name")

    def test_list_and_glob_give_sorted_names(self, storage):
        for name in ("b.json", "a/x.json", "a/b/y.json", "a/z.txt"):
            storage.put(name, dict={})
        assert storage.list() == ["a/b/y.json", "a/x.json", "a/z.txt", "b.json"]
        assert storage.list("a/b") == ["a/b/y.json"]
        assert storage.glob("*.json") == ["b.json"]
        assert storage.glob("a/*") == ["a/x.json", "a/z.txt"]
        assert storage.glob("**/*.json") == ["a/b/y.json", "a/x.json", "b.json"]
        assert storage.glob("a/[!x].txt") == ["a/z.txt"]

    @pytest.mark.parametrize("name", ["../up", "/etc/passwd", "a/../../b", "", "a\0b"])
    def test_no_name_leads_outside(self, storage, name):
        for call in (storage.exists, storage.remove, lambda n: storage.put(n, dict={})):
            with pytest.raises(PathEscapesRootError):
                call(name)

    def test_a_source_that_fails_midway_leaves_the_old_object(self, storage):
        class Failing(io.RawIOBase):
            def read(self, size=-1):
                raise OSError("gone")

        storage.put("name", dict={"v": 1})
        with pytest.raises(OSError, match="gone"):
            storage.put("name", fileobj=Failing())
        with storage.get("name") as path, open(path) as file:
            assert json.load(file) == {"v": 1}
        assert storage.list() == ["name"]
