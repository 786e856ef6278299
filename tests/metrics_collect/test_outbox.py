import datetime as dt

import pytest

from ops.metrics_collect import Outbox, OutboxFull, run

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
