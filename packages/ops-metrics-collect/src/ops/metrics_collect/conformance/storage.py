"""What every storage does that can be read again.

Fixture to give: `storage`, an empty one for each test.
"""

# ruff: noqa: S101, PTH123, PTH116, ARG002 - a suite is made of plain asserts in methods

from __future__ import annotations

import io
import json
import os
from typing import Any

import pytest

from ops.foundation.errors import PathEscapesRootError
from ops.metrics_collect.errors import ObjectExists, ObjectNotFound, ParameterError

__all__ = ["StorageBehaviour"]


class StorageBehaviour:
    """The suite; a subclass whose name begins with Test runs it."""

    def test_a_dict_is_stored_as_json(self, storage: Any) -> None:
        """A dict is stored as json."""
        storage.put("a/b.json", dict={"ä": 1})
        with storage.get("a/b.json") as path, open(path, encoding="utf-8") as file:
            assert json.load(file) == {"ä": 1}

    def test_a_file_and_a_file_object_are_stored_byte_for_byte(
        self, storage: Any, tmp_path: Any
    ) -> None:
        """A file and a file object are stored byte for byte."""
        source = tmp_path / "source"
        source.write_bytes(b"\0\xff" * 1000)
        storage.put("by-name", filename=source)
        storage.put("by-object", fileobj=io.BytesIO(b"\0\xff" * 1000))
        for name in ("by-name", "by-object"):
            with storage.get(name) as path, open(path, "rb") as file:
                assert file.read() == b"\0\xff" * 1000

    @pytest.mark.parametrize("sources", [{}, {"dict": {}, "filename": "x"}])
    def test_put_takes_exactly_one_source(self, storage: Any, sources: Any) -> None:
        """Put takes exactly one source."""
        with pytest.raises(ParameterError, match="exactly one"):
            storage.put("name", **sources)
        assert not storage.exists("name")

    def test_put_replaces_unless_it_creates_once(self, storage: Any) -> None:
        """Put replaces unless it creates once."""
        storage.put("name", dict={"v": 1})
        storage.put("name", dict={"v": 2})
        with pytest.raises(ObjectExists):
            storage.put("name", dict={"v": 3}, overwrite=False)
        with storage.get("name") as path, open(path) as file:
            assert json.load(file) == {"v": 2}

    def test_what_get_gives_is_private_and_vanishes(self, storage: Any) -> None:
        """What get gives is private and vanishes."""
        storage.put("name", dict={"v": 1})
        with storage.get("name") as path, open(path, "w") as file:
            file.write("scribble")
        with pytest.raises(FileNotFoundError):
            os.stat(path)
        with storage.get("name") as again, open(again) as file:
            assert json.load(file) == {"v": 1}

    def test_a_missing_object_is_a_key_error(self, storage: Any) -> None:
        """A missing object is a key error."""
        for call in (storage.remove, lambda n: storage.get(n).__enter__()):
            with pytest.raises(ObjectNotFound, match="no 'missing'") as caught:
                call("missing")
            assert isinstance(caught.value, KeyError)

    def test_remove_removes(self, storage: Any) -> None:
        """Remove removes."""
        storage.put("name", dict={})
        assert storage.exists("name")
        storage.remove("name")
        assert not storage.exists("name")

    def test_list_and_glob_give_sorted_names(self, storage: Any) -> None:
        """List and glob give sorted names."""
        for name in ("b.json", "a/x.json", "a/b/y.json", "a/z.txt"):
            storage.put(name, dict={})
        assert storage.list() == ["a/b/y.json", "a/x.json", "a/z.txt", "b.json"]
        assert storage.list("a/b") == ["a/b/y.json"]
        assert storage.glob("*.json") == ["b.json"]
        assert storage.glob("a/*") == ["a/x.json", "a/z.txt"]
        assert storage.glob("**/*.json") == ["a/b/y.json", "a/x.json", "b.json"]
        assert storage.glob("a/[!x].txt") == ["a/z.txt"]

    @pytest.mark.parametrize("name", ["../up", "/etc/passwd", "a/../../b", "", "a\0b"])
    def test_no_name_leads_outside(self, storage: Any, name: Any) -> None:
        """No name leads outside."""
        for call in (storage.exists, storage.remove, lambda n: storage.put(n, dict={})):
            with pytest.raises(PathEscapesRootError):
                call(name)

    def test_a_source_that_fails_midway_leaves_the_old_object(self, storage: Any) -> None:
        """A source that fails midway leaves the old object."""

        class Failing(io.RawIOBase):
            def read(self, size: int = -1) -> bytes:
                raise OSError("gone")

        storage.put("name", dict={"v": 1})
        with pytest.raises(OSError, match="gone"):
            storage.put("name", fileobj=Failing())
        with storage.get("name") as path, open(path) as file:
            assert json.load(file) == {"v": 1}
        assert storage.list() == ["name"]
