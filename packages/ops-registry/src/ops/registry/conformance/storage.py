"""What every storage backend does.

Fixtures to give: `storage`, and `operations`, the wiring it was made with.
"""

# ruff: noqa: S101 - a suite is made of plain asserts in methods

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from ops.foundation import PathEscapesRootError
from ops.registry import (
    ArtifactNotFoundError,
    CorruptStoreError,
    EventType,
    HookType,
    InvalidValueError,
)

__all__ = ["StorageBehaviour"]


class StorageBehaviour:
    """The suite; a subclass whose name begins with Test runs it."""

    @pytest.fixture
    def table(self) -> Any:
        """Return a table with nulls and a NaN."""
        return pd.DataFrame({"id": [1, 2], "name": ["a", None], "share": [0.5, float("nan")]})

    def test_a_table_comes_back_as_it_was(self, storage: Any, table: Any) -> None:
        """A table comes back as it was."""
        storage.write_dataframe(table, "tables/t.parquet")
        pd.testing.assert_frame_equal(storage.read_dataframe("tables/t.parquet"), table)

    def test_overwriting_replaces_and_appending_adds(self, storage: Any, table: Any) -> None:
        """Overwriting replaces and appending adds."""
        storage.write_dataframe(table, "t.parquet", mode="append")
        storage.write_dataframe(table, "t.parquet", mode="append")
        assert storage.read_dataframe("t.parquet")["id"].tolist() == [1, 2, 1, 2]
        storage.write_dataframe(table, "t.parquet")
        assert storage.read_dataframe("t.parquet")["id"].tolist() == [1, 2]

    def test_an_unknown_mode_is_refused(self, storage: Any, table: Any) -> None:
        """An unknown mode is refused."""
        with pytest.raises(InvalidValueError, match="'upsert'"):
            storage.write_dataframe(table, "t.parquet", mode="upsert")
        assert storage.list_paths() == []

    def test_json_comes_back_with_its_infinities(self, storage: Any) -> None:
        """Json comes back with its infinities."""
        value = {"a": [1, None, "ä\ud800"], "b": float("-inf")}
        storage.write_json(value, "x/y.json")
        assert storage.read_json("x/y.json") == value

    def test_artifacts_are_copied_in_and_out(self, storage: Any, tmp_path: Any) -> None:
        """Artifacts are copied in and out."""
        source = tmp_path / "model"
        (source / "deep").mkdir(parents=True)
        (source / "deep" / "w.bin").write_bytes(b"weights")
        storage.write_artifact(source, "models/m")
        storage.write_artifact(source / "deep" / "w.bin", "w.bin")
        assert storage.read_artifact("models/m", tmp_path / "out") == tmp_path / "out"
        assert (tmp_path / "out" / "deep" / "w.bin").read_bytes() == b"weights"
        assert storage.read_artifact("w.bin", tmp_path).read_bytes() == b"weights"

    def test_what_is_missing_is_reported(self, storage: Any, tmp_path: Any) -> None:
        """What is missing is reported."""
        for read in (storage.read_json, storage.read_dataframe):
            with pytest.raises(ArtifactNotFoundError, match="'no'"):
                read("no")
        with pytest.raises(ArtifactNotFoundError):
            storage.read_artifact("no", tmp_path / "out")
        with pytest.raises(ArtifactNotFoundError):
            storage.write_artifact(tmp_path / "absent", "x")
        assert not storage.exists("no")
        assert not storage.delete("no")

    def test_paths_are_listed_by_prefix_and_deleted_with_what_is_below(self, storage: Any) -> None:
        """Paths are listed by prefix and deleted with what is below."""
        for path in ("a/1.json", "a/2.json", "b.json"):
            storage.write_json(0, path)
        assert storage.list_paths() == ["a/1.json", "a/2.json", "b.json"]
        assert storage.list_paths("a/") == ["a/1.json", "a/2.json"]
        assert storage.exists("a")
        assert storage.delete("a")
        assert storage.list_paths() == ["b.json"]

    @pytest.mark.parametrize("path", ["../x", "/x", "", "a/../../x"])
    def test_no_path_leaves_the_storage(self, storage: Any, path: Any) -> None:
        """No path leaves the storage."""
        for call in (storage.read_json, storage.delete, storage.exists):
            with pytest.raises(PathEscapesRootError):
                call(path)
        with pytest.raises(PathEscapesRootError):
            storage.write_json(1, path)

    def test_a_value_that_cannot_be_written_leaves_the_old_one(self, storage: Any) -> None:
        """A value that cannot be written leaves the old one."""
        storage.write_json(1, "x")
        with pytest.raises(InvalidValueError):
            storage.write_json(object(), "x")
        assert storage.read_json("x") == 1
        assert storage.list_paths() == ["x"]

    def test_damaged_content_is_an_error_of_its_own(self, storage: Any, tmp_path: Any) -> None:
        """Damaged content is an error of its own."""
        (tmp_path / "bad").write_bytes(b"{")
        storage.write_artifact(tmp_path / "bad", "bad")
        for read in (storage.read_json, storage.read_dataframe):
            with pytest.raises(CorruptStoreError, match="'bad'"):
                read("bad")

    def test_a_pre_hook_stops_a_write_and_a_done_one_is_reported(
        self, storage: Any, operations: Any
    ) -> None:
        """A pre hook stops a write and a done one is reported."""

        def refuse(data: Any) -> None:
            if data["path"] == "locked":
                raise ValueError("hands off")

        operations.hooks.register(HookType.PRE_STORAGE_WRITE, refuse)

        with pytest.raises(ValueError, match="hands off"):
            storage.write_json(1, "locked")
        storage.write_json(1, "free")
        assert not storage.exists("locked")
        (event,) = operations.emitter.get_history(EventType.STORAGE_WRITTEN)
        assert event.data == {"path": "free"}
