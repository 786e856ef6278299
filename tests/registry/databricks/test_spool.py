"""The spool and the signs of life when several threads have them, without a warehouse."""

from __future__ import annotations

import json
import threading

import pytest

from ops.registry.databricks import spool as spools
from ops.registry.databricks.heartbeats import WarehouseHeartbeat
from ops.registry.databricks.patience import Patience
from ops.registry.databricks.spool import Spool
from ops.registry.disk.journal import JournalWriter
from ops.registry.errors import StorageError


class Warehouse:
    """Keeps what it is told, or refuses it."""

    def __init__(self):
        self.batches = []
        self.is_away = False

    def change(self, statement, *, batch, **parameters):
        if self.is_away:
            raise StorageError("away")
        self.batches.append(json.loads(batch))
        return 1

    @property
    def runs(self):
        return [sorted(row["r"] for row in batch) for batch in self.batches]


@pytest.fixture
def warehouse():
    return Warehouse()


def test_threads_that_log_while_the_spool_is_closed_share_the_next_one(
    warehouse, tmp_path, monkeypatch
):
    spool = Spool(tmp_path, warehouse)
    body = b'{"m":[["k",1.0,0,1]]}'
    threads = [threading.Thread(target=spool.append, args=(r, "x", body)) for r in "bc"]
    close, keeper = JournalWriter.close, spools._Keeper

    def closing(self):
        monkeypatch.setattr(JournalWriter, "close", close)
        threads[0].start()  # waits for its turn
        threads[0].join(0.2)
        close(self)

    def keeping(*args):
        monkeypatch.setattr(spools, "_Keeper", keeper)
        threads[1].start()  # waits too, and does not open another spool
        threads[1].join(0.2)
        return keeper(*args)

    spool.append("a", "x", body)
    monkeypatch.setattr(spools, "_Keeper", keeping)
    monkeypatch.setattr(JournalWriter, "close", closing)
    spool.close()
    for thread in threads:
        thread.join()
    assert len(list(tmp_path.glob("*.log"))) == 1
    spool.close()
    assert not list(tmp_path.iterdir())
    assert sorted(run for batch in warehouse.runs for run in batch) == ["a", "b", "c"]


def test_a_run_that_is_logged_to_while_others_are_announced_is_announced_next(warehouse):
    heart = WarehouseHeartbeat(warehouse, 30.0, clock=lambda: 0.0)
    heart.start = lambda: None  # it would beat in the background

    class Meanwhile(dict):
        def get(self, run, default=None):
            if run == "a":
                heart.logged("b", "x")
            return super().get(run, default)

    heart._sent = Meanwhile()
    heart.logged("a", "x")
    heart.announce()
    heart.announce()
    assert warehouse.runs == [["a"], ["b"]]


def test_a_sign_of_life_that_the_warehouse_did_not_hear_is_given_again(warehouse):
    heart = WarehouseHeartbeat(warehouse, 30.0, clock=lambda: 0.0)
    heart.start = lambda: None
    heart.logged("a", "x")
    warehouse.is_away = True
    heart.announce()
    heart.send()
    warehouse.is_away = False
    heart.send()
    assert warehouse.runs == [["a"]]


class Starting(Warehouse):
    """A warehouse that never gets ready; it counts the seconds that each statement waits for it."""

    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.waits = []
        self.tried = threading.Event()

    def sleep(self, seconds):
        self.now += seconds

    def change(self, statement, **parameters):
        wait = Patience(900, clock=lambda: self.now, sleep=self.sleep).begin()
        began = self.now
        error = StorageError("it is starting")
        while wait.goes_on("host", error):
            pass
        self.waits.append(self.now - began)
        self.tried.set()
        raise error


def test_a_warehouse_that_is_starting_is_not_waited_for_in_the_background_and_not_for_long_at_the_end(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(spools, "INTERVAL_SECONDS", 0.01)
    warehouse = Starting()
    spool = Spool(tmp_path, warehouse)
    spool.append("a", "x", b'{"m":[["k",1.0,0,1]]}')
    assert warehouse.tried.wait(30)
    assert set(warehouse.waits) == {0}
    with pytest.raises(StorageError):
        spool.flush()
    assert warehouse.waits[-1] == pytest.approx(900)
    spool.close()
    assert 0 <= warehouse.waits[-1] <= 30
    assert len(list(tmp_path.glob("*.log"))) == 1  # for the next process
