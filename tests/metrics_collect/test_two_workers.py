"""Workers that share a ledger, and each has an outbox of its own: what one shipped never blocks the other."""

from __future__ import annotations

import datetime as dt

import pytest
from tests.metrics_collect.conftest import DAY, SQL

from ops.metrics_collect import (
    DataframeActivity,
    Extractor,
    Ledger,
    LedgerStorage,
    Outbox,
    collector,
    gather,
    query_collector,
    run,
    ship,
)


class Died(BaseException):
    pass


class Workers:
    """Workers without a disk of their own, on one database and one storage."""

    def __init__(self, chain):
        self.chain = chain
        self.number = 0
        self.primary_key = "id"

    @property
    def factories(self):
        made = query_collector("runs", SQL, primary_key=self.primary_key, max_part_bytes=10_000)
        return [made.bind(db=self.chain.db)]

    def outbox(self):
        self.number += 1
        return Outbox(self.chain.folder / f"outbox-{self.number}")

    def run(self, *, dies_at="", outbox=None, **options):
        ledger = LedgerStorage(self.chain.storage)
        if dies_at:
            storage = self.chain.storage if dies_at == "close" else _Dying(self.chain.storage, 1)
            ledger = ledger if dies_at == "put" else _NeverClosing(self.chain.storage)
            with pytest.raises(Died):
                run(self.factories, storage, ledger, **self._arguments(outbox, options))
            return None
        return run(self.factories, self.chain.storage, ledger, **self._arguments(outbox, options))

    def _arguments(self, outbox, options):
        return {**self.chain.arguments(), "outbox": outbox or self.outbox(), **options}

    def counted(self, column="id"):
        files = [self.chain.storage.base_path / n for n in self.chain.storage.glob("*.tar.gz")]
        rollup = DataframeActivity(
            "runs", by=[column], row_id=... if self.primary_key else None
        ).add(Extractor(files))
        return {row[column]: row["count"] for row in rollup.group().to_pylist()}


class _NeverClosing(LedgerStorage):
    def close(self, *args, **options):
        raise Died


class _Dying:
    """A storage that lets *count* tarballs through."""

    def __init__(self, storage, count):
        self._storage = storage
        self._count = count

    def __getattr__(self, name):
        return getattr(self._storage, name)

    def put(self, name, **options):
        if name.endswith(".tar.gz"):
            if not self._count:
                raise Died
            self._count -= 1
        self._storage.put(name, **options)


@pytest.fixture
def workers(chain):
    return Workers(chain)


@pytest.mark.parametrize("layout", ["ops", "controller"])
def test_rows_that_were_committed_after_a_worker_died_are_shipped_by_the_next(workers, layout):
    workers.chain.insert(0, 5)
    workers.run(dies_at="close", layout=layout)
    workers.chain.insert(5, 2)
    result = workers.run(layout=layout)
    assert result.ok
    assert [name[-3:] for name in result.shipped] == ["uns", "-r1"]
    assert workers.counted() == {str(n): 1 for n in range(7)}
    assert not workers.run(lookback=dt.timedelta(days=400)).shipped


def test_a_slice_of_which_one_tarball_has_arrived_is_completed_though_rows_have_changed(workers):
    workers.chain.insert(0, 600)
    workers.run(dies_at="put", max_size="10K")
    assert len(workers.chain.storage.glob("*.tar.gz")) == 1
    workers.chain.db.execute("update runs set name = 'new' where id in (0, 599)")
    workers.chain.insert(600, 10)
    assert workers.run().ok
    assert workers.counted() == {str(n): 1 for n in range(610)}
    assert len(workers.chain.storage.glob("*.tar.gz")) >= 2


def test_rows_without_a_key_arrive_once_too(workers):
    workers.chain.insert(0, 4)
    workers.chain.db.execute("update runs set id = null where id < 2")
    workers.run(dies_at="close")
    workers.chain.insert(4, 2)
    workers.chain.db.execute("update runs set id = null where id = 4")
    assert workers.run().ok
    assert sum(workers.counted("name").values()) == 6
    assert workers.run(lookback=dt.timedelta(days=400)).shipped == []


def test_of_two_workers_at_once_each_row_arrives(workers):
    ledger = LedgerStorage(workers.chain.storage)
    outboxes = [workers.outbox(), workers.outbox()]
    for number, outbox in enumerate(outboxes):
        workers.chain.insert(10 * number, 10)
        gather(workers.factories, ledger, **workers.chain.arguments() | {"outbox": outbox})
    for outbox in outboxes:
        assert ship(workers.chain.storage, ledger, outbox=outbox).ok
        assert outbox.counts()["failed"] == outbox.counts()["sending"] == 0
    assert workers.counted() == {str(n): 1 for n in range(20)}


def test_without_a_key_the_slice_of_a_dead_worker_is_put_again(workers):
    workers.primary_key = None
    workers.chain.insert(0, 3)
    workers.run(dies_at="close")
    workers.chain.insert(3, 1)
    assert workers.run().ok
    assert workers.counted() == {str(n): 1 for n in range(4)}


def test_without_a_key_a_slice_that_another_worker_closed_is_left_as_it_is(workers):
    workers.primary_key = None
    ledger = LedgerStorage(workers.chain.storage)
    outboxes = [workers.outbox(), workers.outbox()]
    for number, outbox in enumerate(outboxes):
        workers.chain.insert(number, 1)
        gather(workers.factories, ledger, **workers.chain.arguments() | {"outbox": outbox})
    for outbox in outboxes:
        assert ship(workers.chain.storage, ledger, outbox=outbox).ok
    assert workers.counted() == {"0": 1}


def test_an_inventory_that_changed_since_a_worker_died_is_shipped(workers):
    hosts = [["a"], ["a", "b"]]

    @collector
    def inventory():
        return {"hosts": hosts[0]}

    outbox, ledger = workers.outbox(), _NeverClosing(workers.chain.storage)
    arguments = workers.chain.arguments()
    with pytest.raises(Died):
        run([inventory], workers.chain.storage, ledger, **arguments | {"outbox": outbox})
    hosts.pop(0)
    ledger = LedgerStorage(workers.chain.storage)
    arguments["outbox"] = workers.outbox()
    assert run([inventory], workers.chain.storage, ledger, **arguments).ok
    files = [workers.chain.storage.base_path / n for n in workers.chain.storage.glob("*.tar.gz")]
    assert Extractor(files).frame("inventory")["hosts"].to_list() == ['["a", "b"]']


def test_a_copied_ledger_on_another_database_stays_a_conflict(workers, tmp_path):
    chain = workers.chain
    chain.insert(0, 3)
    (tmp_path / "copy.sqlite").write_bytes(chain.ledger.path.read_bytes())
    assert run(workers.factories, chain.storage, chain.ledger, **chain.arguments()).ok
    chain.db.execute("update runs set name = 'of another application'")
    outbox = workers.outbox()
    copied = Ledger(tmp_path / "copy.sqlite")
    arguments = chain.arguments() | {"outbox": outbox}
    result = run(workers.factories, chain.storage, copied, **arguments)
    assert "ShipConflict" in next(iter(result.failed.values()))
    assert outbox.counts()["failed"] == 1


@pytest.mark.parametrize("step", ["stage", "close", "done"])
def test_whatever_dies_while_a_slice_is_taken_over_each_row_arrives(workers, monkeypatch, step):
    workers.chain.insert(0, 5)
    workers.run(dies_at="close")
    workers.chain.insert(5, 2)
    outbox = workers.outbox()

    def die(*args, **options):
        raise Died

    owner = LedgerStorage if step == "close" else Outbox
    with monkeypatch.context() as patch:
        if step == "stage":
            original = Outbox.stage

            def dying(self, name, meta):
                if name.endswith("-r1"):
                    raise Died
                return original(self, name, meta)

            patch.setattr(Outbox, "stage", dying)
        else:
            patch.setattr(owner, step, die)
        with pytest.raises(Died):
            workers.run(outbox=outbox)
    assert workers.run(outbox=outbox).ok
    assert workers.counted() == {str(n): 1 for n in range(7)}
    assert outbox.counts()["done"] == 2


def test_what_lies_in_the_future_is_left_to_later_runs(workers, monkeypatch):
    chain = workers.chain
    noon = DAY + dt.timedelta(hours=12)
    monkeypatch.setattr("ops.metrics_collect.pipeline.now", lambda: noon)
    chain.insert(0, 3)
    workers.primary_key = None
    assert workers.run(until=DAY + dt.timedelta(days=9)).ok
    assert [i.until for i in LedgerStorage(chain.storage).closed("runs")] == [noon]
    monkeypatch.setattr("ops.metrics_collect.pipeline.now", lambda: DAY + dt.timedelta(days=2))
    chain.insert(3, 3, day=1)
    assert workers.run(until=DAY + dt.timedelta(days=9)).ok
    assert workers.counted() == {str(n): 1 for n in range(6)}
