import datetime as dt
import errno
import os
import tarfile

import pyarrow as pa
import pytest

from ops.metrics_collect import Outbox, OutboxFull, run
from ops.metrics_collect.rollups._spill import Spill
from ops.metrics_collect.tarballs import payload_digests

DAY = dt.datetime(2026, 10, 1, tzinfo=dt.UTC)


def stage(outbox, name, size=10):
    with outbox.stage(name, {"collector": "c"}) as folder:
        (folder / "a.tar.gz").write_bytes(b"x" * size)


def test_a_full_outbox_takes_nothing_until_something_has_left(tmp_path):
    outbox = Outbox(tmp_path, max_bytes=1000)
    stage(outbox, "one", 1000)
    with pytest.raises(OutboxFull, match="the limit is 1000"):
        stage(outbox, "two")
    for parcel in outbox.send():
        outbox.done(parcel)
    stage(outbox, "two")
    assert outbox.counts() == {"new": 1, "sending": 0, "done": 1, "failed": 0}


def test_what_waited_too_long_is_put_aside_and_young_again_when_requeued(tmp_path):
    moment = [DAY]
    outbox = Outbox(tmp_path, max_age=dt.timedelta(days=2), clock=lambda: moment[0])
    stage(outbox, "old")
    moment[0] += dt.timedelta(days=3)
    stage(outbox, "young")
    assert [p.name for p in outbox.send()] == ["young"]
    assert [p.name for p in outbox.parcels("failed")] == ["old"]
    outbox.requeue("old")
    assert [p.name for p in outbox.send()] == ["young", "old"]


def test_a_run_that_fills_the_outbox_leaves_the_rest_as_gaps(chain):
    chain.insert(0, 10)
    chain.insert(10, 10, day=1)
    chain.outbox = Outbox(chain.folder / "outbox", max_bytes=1)

    class Away:
        def put(self, *args, **kwargs):
            raise OSError("away")

    result = run(chain.factories, Away(), chain.ledger, **chain.arguments(days=2))
    assert len(result.gathered) == 1
    assert any("the limit is 1" in error for error in result.failed.values())
    result = run(chain.factories, chain.storage, chain.ledger, **chain.arguments(days=2))
    result = run(chain.factories, chain.storage, chain.ledger, **chain.arguments(days=2))
    assert result.ok
    assert len(chain.ledger.closed("runs")) == 2


@pytest.fixture
def unreadable(monkeypatch):
    """Let folders whose names end in a suffix be unreadable until the test ends, or `undo`."""

    def make(suffix):
        for call in ("scandir", "listdir"):
            original = getattr(os, call)

            def refuse(path=".", original=original):
                if str(path).endswith(suffix):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
                return original(path)

            monkeypatch.setattr(os, call, refuse)
        return monkeypatch

    return make


def test_a_parcel_whose_files_cannot_be_listed_does_not_count_as_arrived(chain, unreadable):
    chain.insert(0, 10)

    class Away:
        def put(self, *args, **kwargs):
            raise OSError("away")

    run(chain.factories, Away(), chain.ledger, **chain.arguments())
    (parcel,) = chain.outbox.parcels("sending")
    patch = unreadable(parcel.name)
    result = run(chain.factories, chain.storage, chain.ledger, **chain.arguments())
    assert not result.ok
    assert chain.ledger.closed("runs") == []
    patch.undo()
    assert run(chain.factories, chain.storage, chain.ledger, **chain.arguments()).ok
    assert len(chain.shipped_files()) == 1


def test_a_tarball_that_cannot_be_opened_now_has_no_other_rows(tmp_path, monkeypatch):
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz"):
        pass

    def refuse(*_, **__):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(tarfile, "open", refuse)
    with pytest.raises(OSError, match="Too many open files"):
        payload_digests(path)
    monkeypatch.undo()
    assert payload_digests(path) == {}
    path.write_bytes(b"none")
    assert payload_digests(path) is None


def test_rows_on_disk_that_cannot_be_listed_are_not_left_out(unreadable):
    schema = pa.schema([("id", pa.int64())])
    spill = Spill(schema, lambda table: table.column("id").to_numpy().astype("uint64"), 1 << 20)
    spill.append_all([pa.table({"id": [1, 2, 3]})])
    unreadable(spill._folder.name)
    with pytest.raises(PermissionError):
        list(spill.partitions())
