"""Batches: nothing that was taken is lost, nothing that fails blocks the rest."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable

import pytest

from ops.cache import (
    BatchOperation,
    BatchProcessor,
    CacheClosedError,
    FailedBatch,
    LRUCache,
    TwoLevelCache,
)
from ops.foundation.errors import ValidationError


def test_operations_are_processed_in_full_batches_and_the_rest_by_a_flush() -> None:
    batches: list[list[str]] = []
    processor: BatchProcessor[BatchOperation] = BatchProcessor(
        process_func=lambda ops: batches.append([op.key for op in ops]), batch_size=2
    )
    for key in ("k1", "k2", "k3"):
        processor.add(BatchOperation(key=key, value="v", operation_type="write"))
    assert processor.pending_count == 1
    assert processor.flush() == 1
    assert batches == [["k1", "k2"], ["k3"]]
    processor.close()
    with pytest.raises(CacheClosedError):
        processor.add(BatchOperation("k4"))


def test_a_failed_batch_is_kept_in_order_and_tried_again() -> None:
    seen: list[list[int]] = []
    fail = [True]

    def process(batch: list[int]) -> None:
        if fail.pop() if fail else False:
            raise OSError
        seen.append(batch)

    with BatchProcessor(process, batch_size=10) as processor:
        processor.add(1)
        processor.add(2)
        with pytest.raises(OSError):
            processor.flush()
        assert processor.pending_count == 2
        processor.add(3)
    assert seen == [[1, 2], [3]]


def test_a_batch_that_always_fails_does_not_block_those_behind_it() -> None:
    seen: list[int] = []
    poison = ValueError("poison")

    def process(batch: list[int]) -> None:
        if 1 in batch:
            raise poison
        seen.extend(batch)

    processor = BatchProcessor(process, batch_size=2)
    processor.add(1)
    with pytest.raises(ValueError, match="poison"):
        processor.add(2)
    for number in (3, 4, 5):
        processor.add(number)
    with pytest.raises(ValueError, match="poison"):
        processor.flush()
    assert seen == [3, 4, 5]
    assert processor.failed == (FailedBatch([1, 2], poison),)
    with pytest.raises(ValueError, match="poison"):
        processor.close()
    assert processor.pending_count == 2  # still there to be looked at


def test_an_interrupt_leaves_the_batch_where_it_was() -> None:
    seen: list[list[int]] = []
    interrupts = [KeyboardInterrupt()]

    def process(batch: list[int]) -> None:
        if interrupts:
            raise interrupts.pop()
        seen.append(batch)

    with BatchProcessor(process) as processor:
        processor.add(1)
        with pytest.raises(KeyboardInterrupt):
            processor.flush()
        assert (processor.pending_count, processor.failed) == (1, ())
        processor.add(2)
    assert seen == [[1, 2]]


def test_no_accepted_operation_is_stranded_by_a_concurrent_close() -> None:
    for _ in range(50):
        seen: list[int] = []
        processor = BatchProcessor(seen.extend, batch_size=1000)
        accepted: list[int] = []
        started = threading.Event()

        def produce(
            processor: BatchProcessor[int] = processor,
            accepted: list[int] = accepted,
            started: threading.Event = started,
        ) -> None:
            for number in range(100_000):
                try:
                    processor.add(number)
                except CacheClosedError:
                    return
                accepted.append(number)
                started.set()

        producer = threading.Thread(target=produce)
        producer.start()
        assert started.wait(60)
        processor.close()
        producer.join(20)
        assert (seen, processor.pending_count) == (accepted, 0)


def test_close_waits_for_an_add_that_has_passed_the_check(
    until: Callable[[Callable[[], bool]], None],
) -> None:
    seen: list[int] = []
    processor = BatchProcessor(seen.extend)
    closer = threading.Thread(target=processor.close)
    with processor._gate:  # where an add is between the check and the append
        closer.start()
        until(closer.is_alive)
        assert not processor._stop.is_set()
        processor._pending.append(1)
    closer.join(20)
    assert seen == [1]


def test_a_dropped_processor_is_freed_and_its_loss_is_a_warning() -> None:
    def fail(_batch: list[int]) -> None:
        raise OSError

    processor = BatchProcessor(fail, flush_interval=3600)
    processor.add(1)
    with pytest.raises(OSError):
        processor.flush()
    watch = weakref.ref(processor)
    del processor
    with pytest.warns(RuntimeWarning, match="operations lost: 1"):
        gc.collect()
    assert watch() is None


def test_what_is_pending_at_exit_is_processed_also_beside_a_failing_processor() -> None:
    program = (
        "from ops.cache import BatchProcessor\n"
        "def fail(batch): raise OSError('no disk')\n"
        "bad, good = BatchProcessor(fail), BatchProcessor(print)\n"
        "bad.add(1); good.add(2)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=True
    )
    assert done.stdout == "[2]\n"
    assert "no disk" in done.stderr
    assert "1 operations could not be processed" in done.stderr


def test_a_background_flush_processes_what_is_pending(
    until: Callable[[Callable[[], bool]], None],
) -> None:
    seen: list[int] = []
    with BatchProcessor(seen.extend, flush_interval=0.001) as processor:
        processor.add(1)
        until(lambda: seen == [1])


@pytest.mark.parametrize("wrong", [0, -1.0, float("nan"), float("inf")])
def test_an_interval_that_is_no_time_is_refused(wrong: float) -> None:
    with pytest.raises(ValidationError, match="flush_interval"):
        BatchProcessor(print, flush_interval=wrong)
    with pytest.raises(ValidationError, match="flush_interval"):
        TwoLevelCache(LRUCache(), LRUCache(), write="back", flush_interval=wrong)


def test_a_forked_child_leaves_what_is_pending_to_its_parent() -> None:
    program = """
import os, sys
from ops.cache import BatchProcessor
batches = BatchProcessor(lambda operations: os.write(1, b"processed;"))
batches.add(1)
child = os.fork()
if not child:
    sys.exit(0)
os.waitpid(child, 0)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("processed;", "")
