"""How users call ops.datalog."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

import numpy as np

from ops.datalog import (
    DataLogger,
    LateProducer,
    LogPackage,
    LogReader,
    LogSchema,
    LogSource,
    ProducersLateError,
    import_mcap,
    open_log,
)


def log(folder: Path) -> list[int]:
    with DataLogger(folder, layout="segments", on_full="drop") as logger:
        logger.input_queue.put(LogPackage(np.uint8(1), 5, np.zeros(3, np.uint8)))
        logger.input_queue.put_many(1, np.arange(3), np.zeros((3, 4), np.uint8))
    times = [message.timestamp for message in open_log(logger.output_directory).iter(1)]
    assert_type(times, list[int])
    return times


def describe(folder: Path) -> None:
    schema = LogSchema("<f4", columns=("x", "y"), units={"x": "mm"}, rate=100.0, time_unit="us")
    with DataLogger(
        folder, sources={1: LogSource("arm", schema)}, min_free_bytes=1 << 30
    ) as logger:
        logger.describe(2, "raw", metadata={"serial": "A7"})
        logger.input_queue.log(1, 1, b"\0" * 8)
    log = open_log(logger.output_directory)
    assert_type(log.described(), dict[int, LogSource])
    assert_type(log.to_mcap(folder / "log.mcap"), Path)
    assert_type(import_mcap(folder / "log.mcap", folder / "copy"), LogReader)
    log.table(1)["x"].mean()


def stop(logger: DataLogger) -> list[int]:
    try:
        logger.stop(timeout=5.0)
    except ProducersLateError as error:
        assert_type(error.late, tuple[LateProducer, ...])
        return [producer.pid for producer in error.late]
    return []
