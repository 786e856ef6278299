"""Snapshots of the journal of models: what a process begins with says what the whole journal does."""

from __future__ import annotations

import random
import re
import shutil
import signal
import subprocess
import sys

import pytest

from ops.registry import MLOpsConfig, MLOpsContext, ModelNotFoundError, ModelStage
from ops.registry.disk.journal import frame, parse
from ops.registry.fsck import check
from ops.registry.local import model_event_store
from ops.registry.mlflow.model_repository import ModelBook


@pytest.fixture
def often(monkeypatch):
    """Lets every third frame make a snapshot."""
    monkeypatch.setattr(model_event_store, "SNAPSHOT_FRAMES", 3)


@pytest.fixture
def book(registry):
    return ModelBook(registry.root)


@pytest.fixture
def filled(often, registry, artifact):
    """Returns a registry of some frames and a snapshot of all but the last."""
    for number in range(1, 5):
        tags, metrics = {"n": str(number)}, {"auc": float("nan")}
        registry.register_model("m", artifact, "binary", "mine", metrics=metrics, tags=tags)
        registry.promote_model("m", number, ModelStage.PRODUCTION)
    registry.register_model("n", artifact, "binary", "mine", dependencies=["a", "b"])
    registry.close()
    assert path_of(registry).exists()
    registry.annotate("n", 1, "the last frame")
    registry.close()
    return registry


def path_of(registry):
    return registry.root / "models" / "journal.log.snapshot"


def told(registry):
    versions = [v for name in registry.list_models() for v in registry.list_model_versions(name)]
    return repr(versions)


@pytest.mark.parametrize("seed", range(5))
def test_whatever_happened_a_new_process_knows_the_same(often, book, artifact, new_context, seed):
    rng = random.Random(seed)

    def step():
        name, alias = rng.choice("abc"), rng.choice(["x", "y"])
        known = [v.version for v in book.list_model_versions(name)] if is_there(name) else []
        if not known or rng.random() < 0.3:
            return book.register_model(name, artifact, "binary", "mine", tags={"s": str(seed)})
        version = rng.choice(known)
        change = rng.choice(
            [
                lambda: book.promote_model(name, version, rng.choice(list(ModelStage))),
                lambda: book.set_alias(name, alias, version),
                lambda: book.set_tag(name, version, alias, rng.random()),
                lambda: book.annotate(name, version, f"é {rng.random()}"),
                lambda: book.delete_model_version(name, version),
                lambda: book.describe_model(name, description="d", tags={alias: "t"}),
                lambda: book.drop_model(name),
                lambda: book.rename_model(name, f"{name}-{rng.random()}"),
            ]
        )
        return change()

    def is_there(name):
        return name in book.list_models()

    for _ in range(60):
        step()
        fresh = ModelBook(book.root)
        assert told(fresh) == told(book)
        assert fresh.has_sound_ledger()
        fresh.close()
    book.close()
    assert path_of(book).exists()
    assert new_context().model_registry.has_sound_ledger()


def test_the_beginning_of_the_journal_is_not_read_again(filled, new_context):
    journal = filled.root / "models" / "journal.log"
    for _ in range(3):  # more than what is compared before the end of a snapshot
        filled.annotate("n", 1, "x" * 4000)
    filled.close()
    with journal.open("r+b") as file:
        file.write(b"#" * 20)
    context = new_context()
    assert context.model_registry.get_model_version("m", 1).version == 1
    (problem,) = check(context).problems
    assert re.search(r"'m'/1.* damaged", problem)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_snapshot_that_was_cut_is_left_alone(filled, new_context, share):
    path = path_of(filled)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert told(new_context().model_registry) == told(filled)


def test_a_snapshot_with_another_byte_is_left_alone(filled, new_context):
    path = path_of(filled)
    data = bytearray(path.read_bytes())
    for place in range(0, len(data), 97):
        changed = data.copy()
        changed[place] ^= 1
        path.write_bytes(changed)
        assert told(ModelBook(filled.root)) == told(filled)


@pytest.mark.parametrize("number", [1, 3])
def test_a_snapshot_of_another_format_is_left_alone(filled, new_context, number):
    head, body = path_of(filled).read_bytes().split(b"\n", 1)
    (header,), _, _ = parse(head + b"\n")
    path_of(filled).write_bytes(frame(header | {"format": number, "models": []}) + body)
    assert told(new_context().model_registry) == told(filled)


def test_a_snapshot_of_another_journal_is_left_alone(filled, new_context, artifact):
    other = MLOpsContext(MLOpsConfig(storage_path=str(artifact.parent / "other"))).model_registry
    for _ in range(2):
        other.register_model("theirs", artifact, "binary", "mine")
    shutil.copy(path_of(filled), path_of(other))
    anew = ModelBook(other.root)
    assert anew.list_models() == ["theirs"]  # a shorter journal
    for number in range(200):
        anew.set_tag("theirs", 1, "n", number)
    shutil.copy(path_of(filled), path_of(other))
    assert ModelBook(other.root).list_models() == ["theirs"]  # a longer one


def test_a_store_that_was_moved_finds_its_artifacts(filled, artifact, tmp_path):
    filled.root.parent.rename(tmp_path / "moved")
    moved = MLOpsContext(MLOpsConfig(storage_path=str(tmp_path / "moved"))).model_registry
    moved.verify(moved.get_model_version("m", 1))
    assert str(tmp_path / "moved") in moved.get_model_version("m", 1).artifact_uri


def test_damaged_lines_before_a_snapshot_are_still_counted(filled, new_context):
    with (filled.root / "models" / "journal.log").open("ab") as file:
        file.write(b"torn\n")
    for number in range(4):
        filled.set_tag("m", 1, "n", number)
    filled.close()
    registry = new_context().model_registry
    registry.list_models()
    assert registry._events.torn == 1


def test_who_cannot_write_a_snapshot_goes_on_without(often, registry, artifact):
    (registry.root / "models").mkdir(parents=True)
    path_of(registry).mkdir()
    for _ in range(5):
        registry.register_model("m", artifact, "binary", "mine")
    registry.close()
    assert len(registry.list_model_versions("m")) == 5


def test_repair_writes_the_snapshot_again(filled, context, new_context):
    path_of(filled).write_bytes(b"damaged")
    assert check(context, repair=True).is_sound
    context.model_registry.close()
    assert b'"format":2' in path_of(filled).read_bytes()
    with pytest.raises(ModelNotFoundError):
        new_context().model_registry.get_model_version("o")


KILLED = """
import os, pathlib, signal, sys
from ops.registry.context import MLOpsConfig, MLOpsContext
from ops.registry.disk import derived_files
from ops.registry.local import model_event_store
from ops.registry import ModelStage

step, store = sys.argv[1:]
model_event_store.SNAPSHOT_FRAMES = 4
die = lambda: os.kill(os.getpid(), signal.SIGKILL)
put, replace = derived_files._put, os.replace
countdown = iter(range(2))  # the first snapshot is whole, the second one is not

def is_it(path):
    return ".snapshot" in str(path) and next(countdown, None) is None

def half(path, body):
    if step == "half written" and is_it(path):
        put(path, body[: len(body) // 2])
        die()
    put(path, body)

def moved(old, new):
    if step == "before the rename" and is_it(new):
        die()
    replace(old, new)
    if step == "after the rename" and is_it(new):
        die()

derived_files._put, os.replace = half, moved
registry = MLOpsContext(MLOpsConfig(storage_path=store)).model_registry
model = pathlib.Path(store + ".bin")
model.write_bytes(b"weights")
while True:
    made = registry.register_model("m", model, "binary", "mine")
    registry.promote_model("m", made.version, ModelStage.PRODUCTION)
    print(made.version, flush=True)
    registry.close()
"""


@pytest.mark.fault
@pytest.mark.parametrize("step", ["half written", "before the rename", "after the rename"])
def test_a_kill_at_any_step_of_a_snapshot_loses_nothing(context, new_context, step):
    command = [sys.executable, "-c", KILLED, step, str(context.path)]
    killed = subprocess.run(command, stdout=subprocess.PIPE, timeout=300, check=False)
    assert killed.returncode == -signal.SIGKILL
    acknowledged = [int(line) for line in killed.stdout.split()]
    assert acknowledged
    registry = new_context().model_registry
    versions = registry.list_model_versions("m")
    assert [v.version for v in versions][: len(acknowledged)] == acknowledged
    assert sum(v.stage == ModelStage.PRODUCTION for v in versions) == 1
    assert registry.has_sound_ledger()
    assert path_of(registry).exists()
