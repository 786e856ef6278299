"""A store from another person: whatever its files name, nothing outside of it is read into, written or removed.

Journals carry a checksum that anybody can compute, so each test writes frames as an attacker would, in every
field that becomes a path, and then does with the store all that a user may do with one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time

import pytest

from ops.foundation.errors import OpsError
from ops.registry import LocalStorageBackend, MLOpsConfig, MLOpsContext, RunStatus
from ops.registry.disk.artifacts import waiting_place
from ops.registry.disk.checked_paths import inside, is_part, is_relative
from ops.registry.disk.journal import JournalReader, encode, frame
from ops.registry.fsck import check, collect
from ops.registry.html_report import write_page
from ops.registry.transfer import copy_store

PAYLOAD = b"from the attacker"
SHA = hashlib.sha256(PAYLOAD).hexdigest()


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A small store with one run, one artifact and one model."""
    top = tmp_path_factory.mktemp("template")
    (top / "w").write_bytes(PAYLOAD)
    with MLOpsContext(MLOpsConfig(storage_path=top / "store")) as context:
        tracker = context.experiment_tracker
        experiment = tracker.create_experiment("theirs")
        run = tracker.start_run(experiment.experiment_id, "r")
        tracker.log_artifact(run.run_id, top / "w")
        tracker.end_run(run.run_id)
        context.model_registry.register_model("model", top / "w", "binary", "f")
        context.storage.write_json(1, "a.json")
    return top / "store"


class Attack:
    """A hostile copy of the template beside a home with what must stay as it is."""

    def __init__(self, top, template):
        self.home = top / "home"
        self.precious = self.home / "work" / "v1"
        self.precious.mkdir(parents=True)
        (self.precious / "thesis.txt").write_text("years")
        (self.home / ".profile").write_bytes(b"the user's own")
        # What a frame may want to be copied from lies where the attacker could have put it.
        (top / "work" / "v1").mkdir(parents=True)
        (top / "work" / "v1" / "w").write_bytes(PAYLOAD)
        self.store = top / "evil"
        self.copy = top / "copy" / "of" / "it"
        shutil.copytree(template, self.store)
        self.tracking = self.store / "experiment_tracking"
        self.models = self.store / "model_registry"
        (self.main,) = self.tracking.glob("runs/*/*.main.log")
        self.run_id = self.main.name.removesuffix(".main.log")
        self.before = self.outside()

    def outside(self):
        return {
            str(path): path.read_bytes() if path.is_file() else None
            for path in sorted(self.home.rglob("*"))
        }

    def append(self, journal, record):
        with journal.open("ab") as file:
            file.write(frame(record))

    def write_below_data(self):
        with MLOpsContext(MLOpsConfig(storage_path=self.store)) as context:
            context.storage.write_json(1, "data/work/v1/thesis.txt")

    def use(self):
        """Do all that a user may do; only errors of this package may come of it."""
        attempts = [self._look, self._check, self._repair, self._collect, self._export, self._work]
        for attempt in attempts:
            try:
                with MLOpsContext(MLOpsConfig(storage_path=self.store)) as context:
                    attempt(context)
            except OpsError:
                pass
        assert self.outside() == self.before

    def _look(self, context):
        tracker, registry = context.experiment_tracker, context.model_registry
        for experiment in tracker.list_experiments():
            tracker.search_runs(experiment.experiment_id, filter="status != 'x'")
            for run in tracker.list_runs(experiment.experiment_id):
                for artifact in run.artifacts:
                    out = self.home / "downloads" / artifact.path
                    with contextlib.suppress(OpsError):
                        tracker.download_run_artifact(run.run_id, artifact.path, out)
                    shutil.rmtree(self.home / "downloads", ignore_errors=True)
        for version in registry.search_models():
            registry.verify(version)
        write_page(context, self.store / "page.html")

    def _check(self, context):
        check(context)

    def _repair(self, context):
        check(context, repair=True)

    def _collect(self, context):
        collect(context, now=lambda: time.time() + 10**7)

    def _export(self, context):
        with MLOpsContext(MLOpsConfig(storage_path=self.copy)) as other:
            copy_store(context, other)

    def _work(self, context):
        tracker, registry = context.experiment_tracker, context.model_registry
        source = self.store.parent / "mine"
        source.write_bytes(b"mine")
        tracker.log_artifact(self.run_id, source, overwrite=True)
        tracker.set_tag(self.run_id, "a", "b")
        tracker.end_run(self.run_id, RunStatus.COMPLETED)
        context.compact()
        registry.register_model("model", source, "binary", "f")
        registry.delete_model("model")


@pytest.fixture
def attack(tmp_path, template):
    return Attack(tmp_path, template)


def names(attack):
    """Names that must never become paths; the home is up from wherever the store keeps something."""
    return [
        str(attack.home / ".profile"),
        *("../" * up + "home/.profile" for up in (2, 4, 5, 6)),
        "a/../../../../../home/.profile",
        "x\0y",
        "..",
        "..\\..\\home\\.profile",
        "C:\\home\\.profile",
        "",
    ]


def test_a_name_of_an_artifact_leads_nowhere_else(attack):
    base = attack.tracking / "artifacts" / attack.run_id
    for name in names(attack):
        if "\0" not in name:
            waiting_place(base, name, SHA).write_bytes(PAYLOAD)
        attack.append(attack.main, {"a": [name, len(PAYLOAD), SHA], "t": time.time_ns()})
    with MLOpsContext(MLOpsConfig(storage_path=attack.store)) as context:
        run = context.experiment_tracker.get_run(attack.run_id)
        assert [artifact.path for artifact in run.artifacts] == ["w"]
    attack.use()


def test_an_address_of_an_artifact_is_in_a_bucket_or_nowhere(attack):
    for address in (str(attack.home / ".profile"), "file:///etc/passwd", "../x"):
        attack.append(attack.main, {"a": ["w", 1, SHA, address], "t": time.time_ns()})
    attack.use()


def test_a_writer_has_no_path_for_a_name(attack):
    for name in names(attack):
        attack.append(attack.main, {"e": "writer", "w": name, "o": None, "t": time.time_ns()})
    attack.use()


def test_a_run_has_the_id_that_its_journal_is_called_by(attack):
    (start, *others) = JournalReader(attack.main).poll()
    for name in names(attack):
        attack.main.write_bytes(b"".join(map(frame, [start | {"run": name}, *others])))
        attack.use()
        attack.main.write_bytes(b"".join(map(frame, [start | {"exp": name}, *others])))
        attack.use()


def test_the_index_names_runs_by_ids_alone(attack):
    (segment,) = attack.tracking.glob("runs/*/index/*.log")
    (first, *_) = JournalReader(segment).poll()
    for name in names(attack):
        attack.append(segment, {"row": first["row"] | {"run_id": name}})
        attack.append(segment, {"stale": name})
        attack.append(segment, {"gone": name})
    attack.use()


def test_an_experiment_has_no_path_for_an_id(attack):
    journal = attack.tracking / "experiments" / "journal.log"
    (first,) = JournalReader(journal).poll()
    for number, name in enumerate(names(attack)):
        attack.append(journal, first | {"id": name, "name": f"e{number}"})
    attack.use()
    with MLOpsContext(MLOpsConfig(storage_path=attack.store)) as context:
        assert [e.name for e in context.experiment_tracker.list_experiments()] == ["theirs"]


@pytest.mark.parametrize("field", ["file", "model_id", "version", "uri"])
def test_a_version_of_a_model_leads_nowhere_else(attack, field):
    journal = attack.models / "models" / "journal.log"
    (first,) = JournalReader(journal).poll()
    gone = {"v": 1, "op": "delete", "name": "model", "version": 1, "t": time.time_ns()}
    for name in [*names(attack), "../../../home/work", "../../../work"]:
        bad = first | {field: name}
        journal.write_bytes(frame(bad) + frame(gone) + frame(bad | {"version": 2, field: name}))
        attack.use()


def test_a_plan_of_a_transaction_leads_nowhere_else(attack):
    for number, name in enumerate(names(attack)):
        folder = attack.store / "storage" / ".transactions" / f"{number:016x}"
        (folder / "new").mkdir(parents=True)
        (folder / "old").mkdir()
        (folder / "old" / "0").write_bytes(PAYLOAD)
        plan = [{"path": name, "target": name, "new": True, "existed": False}]
        (folder / "plan").write_bytes(encode(plan))
    attack.use()


def test_a_plan_names_no_target_of_its_own(attack):
    folder = attack.store / "storage" / ".transactions" / "0123456789abcdef"
    (folder / "new").mkdir(parents=True)
    (folder / "old").mkdir()
    plan = [{"path": "x", "target": str(attack.precious), "new": True, "existed": False}]
    (folder / "plan").write_bytes(encode(plan))
    attack.use()
    assert not folder.exists()  # it was undone: there was nothing at x


@pytest.mark.parametrize(
    "place",
    [
        "model_registry",
        "experiment_tracking",
        "storage",
        "experiment_tracking/artifacts",
        "experiment_tracking/runs",
        "experiment_tracking/experiments",
        "model_registry/artifacts",
        "model_registry/metadata",
        "model_registry/models",
        "storage/.transactions",
        "storage/data",
    ],
)
def test_a_link_in_place_of_a_folder_is_not_followed(attack, place):
    path = attack.store / place
    if path.is_dir():
        shutil.rmtree(path)
    path.symlink_to(attack.home, target_is_directory=True)
    attack.use()
    with contextlib.suppress(OpsError):
        attack.write_below_data()
    assert attack.outside() == attack.before


def test_a_check_names_the_links_that_it_finds(attack):
    (attack.store / "storage" / "data").symlink_to(attack.home, target_is_directory=True)
    with MLOpsContext(MLOpsConfig(storage_path=attack.store)) as context:
        (problem,) = check(context).problems
        assert "data is a link" in problem
        with pytest.raises(OpsError, match="link"):
            context.storage.write_json(1, "data/work/v1/thesis.txt")


def test_links_in_place_of_files_are_not_followed(attack):
    runs = attack.main.parent
    artifact = attack.tracking / "artifacts" / attack.run_id / "w"
    for place in (
        runs / "index.parquet",
        runs / f"{attack.run_id}.json",
        runs / f"{attack.run_id}.metrics.parquet",
        runs / "index" / "000001.log",
        artifact,
        attack.models / "models" / "index.parquet",
        attack.models / "models" / "journal.log.snapshot",
        attack.store / "audit.jsonl",
        attack.store / "storage" / "linked",
    ):
        place.unlink(missing_ok=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(attack.home / ".profile")
    attack.use()
    with MLOpsContext(MLOpsConfig(storage_path=attack.store)) as context:
        with pytest.raises(OpsError):
            context.storage.write_json(1, "linked")
        with pytest.raises(OpsError):
            context.experiment_tracker.download_run_artifact(
                attack.run_id, "w", attack.store.parent / "out"
            )
        context.storage.delete("a.json")
    assert attack.outside() == attack.before


def test_a_folder_of_a_transaction_may_not_be_a_link(attack):
    above = attack.store / "storage" / ".transactions"
    above.mkdir()
    (above / "0123456789abcdef").symlink_to(attack.precious, target_is_directory=True)
    (above / "fedcba9876543210").mkdir()
    (above / "fedcba9876543210" / "old").symlink_to(attack.precious, target_is_directory=True)
    attack.use()


def test_what_is_noted_as_uploaded_is_removed_below_the_configured_address_alone(tmp_path):
    from ops.registry.remote.artifacts import RemoteArtifacts
    from ops.registry.remote.uploads import Uploads

    class Bucket:
        deleted: list = []

        def delete(self, bucket, key):
            self.deleted.append((bucket, key))

        def abort_uploads(self, bucket, key):
            pass

    notes = tmp_path / "uploads.log"
    own = f"s3://mine/store/runs/r/{'0' * 16}/w"
    for uri in ("s3://other/backup/all.tar", "s3://mine/other/runs/r/x/w", own):
        Uploads(notes).note(uri, lambda: 0.0)
    remote = RemoteArtifacts("s3://mine/store", notes, Bucket())
    found = remote.left_over(lambda _: False, time.time())
    assert found == [own]
    remote.clear(["s3://other/backup/all.tar", own])
    assert Bucket.deleted == [("mine", f"store/runs/r/{'0' * 16}/w")]


@pytest.mark.parametrize(
    "value", ["/x", "../x", "a/../b", "", "x\0", "..\\x", "C:\\x", "C:/x", None, 5]
)
def test_only_relative_names_become_paths(value, tmp_path):
    assert not is_relative(value)
    assert not is_part(value)
    if isinstance(value, str):
        with pytest.raises(OpsError):
            inside(tmp_path, value)


def test_a_storage_that_is_a_link_itself_works(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk", target_is_directory=True)
    with MLOpsContext(MLOpsConfig(storage_path=tmp_path / "link")) as context:
        context.storage.write_json(1, "a.json")
        assert check(context).is_sound
    assert os.listdir(tmp_path / "disk") == ["storage"]


def test_a_copy_of_a_storage_is_repaired_where_it_lies(tmp_path, monkeypatch):
    from ops.registry import Transaction
    from ops.registry.disk import transactions

    class Killed(BaseException):
        pass

    def write(path, data):
        if path.name == "committed":
            raise Killed
        real(path, data)

    real = transactions._write
    original = LocalStorageBackend(tmp_path / "original")
    original.write_json("old", "a.json")
    monkeypatch.setattr(transactions, "_write", write)
    monkeypatch.setattr(Transaction, "rollback", lambda self: self._end())
    changes = Transaction(original).begin()
    changes.write_json("new", "a.json")
    changes.write_json("new", "b.json")
    with pytest.raises(Killed):
        changes.commit()
    for way in (shutil.copytree, shutil.move):
        target = tmp_path / way.__name__
        way(tmp_path / "original", target)
        moved = LocalStorageBackend(target)
        assert moved.read_json("a.json") == "old"
        assert moved.list_paths() == ["a.json"]
