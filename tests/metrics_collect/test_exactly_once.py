"""Any schedule of failures, deaths, retries, late rows and repeated deliveries counts every row once."""

import datetime as dt
import itertools
import os
import shutil
import sqlite3
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ops.metrics_collect import (
    DataframeActivity,
    Extractor,
    Ledger,
    LedgerStorage,
    Outbox,
    StorageDirectory,
    query_collector,
    run,
)

DAY = dt.datetime(2026, 10, 1, tzinfo=dt.UTC)
DAYS = 3
EXAMPLES = 1000 if os.environ.get("OPS_FAULTS") == "full" else 40
# Syncing to memory costs nothing; what is lost with the power is not what is tested here.
MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None
SQL = "select * from runs where finished >= :since and finished < :until order by id"


class Killed(BaseException):
    """What a kill looks like from inside: nothing after it runs but what `with` undoes."""


class Fate:
    """Says for each step what happens: nothing, an error or a death, before the step or after it."""

    def __init__(self):
        self.script = []

    def around(self, step):
        what = self.script.pop(0) if self.script else "ok"
        if what == "fail before":
            raise OSError("scripted")
        if what == "die before":
            raise Killed
        result = step()
        if what == "fail after":
            raise OSError("scripted")
        if what == "die after":
            raise Killed
        return result


def fated(kind, fate, *names):
    """Return a subclass of *kind* whose methods *names* are steps of *fate*."""

    def method(name):
        return lambda self, *a, **k: fate.around(lambda: getattr(kind, name)(self, *a, **k))

    return type(kind.__name__, (kind,), {name: method(name) for name in names})


class World:
    """A source, a destination, and a site that moves rows from one to the other."""

    def __init__(self, folder, *, ledger_beside):
        self.folder, self.fate, self.ids = folder, Fate(), itertools.count()
        self.db = sqlite3.connect(":memory:")
        self.db.execute("create table runs (id integer, finished text)")
        self.collector = query_collector("runs", SQL, primary_key="id", max_part_bytes=60)
        self.broken = False
        self.bound = self.collector.bind(db=self)
        self.storage = fated(StorageDirectory, self.fate, "put", "get")(folder / "shipped")
        if ledger_beside:
            beside = StorageDirectory(folder / "beside")
            self.ledger = fated(LedgerStorage, self.fate, "close")(beside)
        else:
            self.ledger = fated(Ledger, self.fate, "close")(folder / "ledger.sqlite")
        self.outbox = fated(Outbox, self.fate, "_move")(folder / "outbox", max_attempts=3)

    def cursor(self):
        if self.broken:
            raise sqlite3.OperationalError("scripted")
        return self.db.cursor()

    def insert(self, day, count):
        moment = (DAY + dt.timedelta(days=day, hours=1)).isoformat()
        self.db.executemany(
            "insert into runs values (?, ?)", [(next(self.ids), moment) for _ in range(count)]
        )

    def run(self, script=()):
        self.fate.script = list(script)
        try:
            return run(
                [self.bound],
                self.storage,
                self.ledger,
                outbox=self.outbox,
                since=DAY,
                until=DAY + dt.timedelta(days=DAYS),
                lookback=dt.timedelta(days=DAYS + 1),
                max_size=100,
            )
        except (Killed, OSError):  # an outbox that cannot change states is no use: run raises
            return None
        finally:
            self.fate.script = []

    def deliver_again(self, which):
        files = sorted((self.folder / "shipped").glob("*.tar.gz"))
        if files:
            chosen = files[which % len(files)]
            shutil.copyfile(chosen, chosen.with_name(f"again-{next(self.ids)}.tar.gz"))

    def shipped_ids(self, *, again=False):
        files = sorted((self.folder / "shipped").glob("*.tar.gz"))
        files = [f for f in files if again or not f.name.startswith("again")]
        return [
            int(i)
            for payload in Extractor(files).payloads({"runs"})
            for i in payload.batch.column("id").to_pylist()
        ]


FATES = st.sampled_from(["ok", "ok", "ok", "fail before", "fail after", "die before", "die after"])
ACTIONS = st.one_of(
    st.tuples(st.just("insert"), st.integers(0, DAYS - 1), st.integers(1, 9)),
    st.tuples(st.just("run"), st.lists(FATES, max_size=8)),
    st.tuples(st.just("break source")),
    st.tuples(st.just("deliver again"), st.integers(0, 9)),
)


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
@given(actions=st.lists(ACTIONS, max_size=8), ledger_beside=st.booleans())
def test_any_schedule_counts_every_row_exactly_once(actions, ledger_beside):
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        world = World(Path(name), ledger_beside=ledger_beside)
        inserted = 0
        for action, *arguments in actions:
            if action == "insert":
                world.insert(*arguments)
                inserted += arguments[1]
            elif action == "run":
                world.run(*arguments)
            elif action == "break source":
                world.broken = True
                world.run()
                world.broken = False
            else:
                world.deliver_again(*arguments)
        for parcel in world.outbox.parcels("failed"):
            world.outbox.requeue(parcel.name)
        # One run ends what waits (and so frees its slices), the next looks for late rows.
        assert world.run().ok
        assert world.run().ok
        ids = [r[0] for r in world.db.execute("select id from runs order by id")]
        assert sorted(world.shipped_ids()) == ids
        rollup = DataframeActivity("runs", by=["finished"])
        rollup.add(Extractor(sorted((world.folder / "shipped").glob("*.tar.gz"))))
        assert sum(rollup.group()["count"].to_pylist()) == len(ids) == inserted
        assert world.run().shipped == []
        world.db.close()
