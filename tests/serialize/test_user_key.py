"""The key of a user: made once, at random, for its owner alone."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ops.serialize import SignatureError, deserialize_data, serialize_data
from ops.serialize import user_key as module
from ops.serialize.user_key import user_key, user_key_path


@pytest.fixture(autouse=True)
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "_known", {})
    monkeypatch.setenv("OPS_SERIALIZE_USER_KEY_FILE", str(tmp_path / "data" / "k"))
    return tmp_path / "data" / "k"


def test_the_key_is_created_once_and_can_be_read_by_its_owner_alone(path: Path) -> None:
    key = user_key()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    module._known.clear()
    assert user_key() == key
    assert [child.name for child in path.parent.iterdir()] == ["k"]


def test_a_key_of_which_only_a_part_fitted_on_the_disk_is_no_key(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:10]))
    with pytest.raises(SignatureError, match="No space left"):
        user_key()
    monkeypatch.undo()
    monkeypatch.setenv("OPS_SERIALIZE_USER_KEY_FILE", str(path))
    assert list(path.parent.iterdir()) == []
    assert user_key()


def test_programs_that_start_at_once_agree_on_one_key(path: Path) -> None:
    program = "from ops.serialize.user_key import user_key; print(user_key().key.hex())"
    running = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    keys = {process.communicate(timeout=300)[0] for process in running}
    assert keys == {user_key().key.hex() + "\n"}


def test_plain_data_needs_no_key_and_objects_make_one(path: Path) -> None:
    assert deserialize_data(serialize_data({"a": (1, 2)}, trust="user"), trust="user") == {
        "a": (1, 2)
    }
    assert not path.exists()
    value = [deserialize_data]
    assert deserialize_data(serialize_data(value, trust="user"), trust="user") == value
    assert path.exists()


def test_what_another_user_has_signed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as other:
        other.setenv("OPS_SERIALIZE_USER_KEY_FILE", str(tmp_path / "theirs"))
        data = serialize_data([deserialize_data], trust="user")
    with pytest.raises(SignatureError):
        deserialize_data(data, trust="user")


@pytest.mark.parametrize("how", ["read by all", "read by its group", "link", "damaged", "folder"])
def test_a_key_that_others_may_know_or_have_made_is_refused(path: Path, how: str) -> None:
    key = user_key().key.hex()
    module._known.clear()
    if how.startswith("read"):
        path.chmod(0o644 if how == "read by all" else 0o640)
    elif how == "link":
        path.rename(path.with_name("other"))
        path.symlink_to(path.with_name("other"))
    elif how == "damaged":
        path.write_text(key[:10])
    else:
        path.unlink()
        path.mkdir()
    with pytest.raises(SignatureError, match="key"):
        user_key()


def test_a_folder_that_cannot_be_written_is_an_error_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("OPS_SERIALIZE_USER_KEY_FILE", str(tmp_path / "file" / "k"))
    with pytest.raises(SignatureError, match="OPS_SERIALIZE_USER_KEY_FILE"):
        user_key()


def test_the_key_lies_in_the_data_folder_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPS_SERIALIZE_USER_KEY_FILE")
    monkeypatch.setenv("XDG_DATA_HOME", os.sep + "data")
    assert user_key_path() == Path(os.sep, "data", "ops", "serialize.key")
