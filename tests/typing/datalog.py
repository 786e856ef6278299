"""How users call ops.datalog."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

import numpy as np

from ops.datalog import DataLogger, LogPackage, open_log


def log(folder: Path) -> list[int]:
    with DataLogger(folder, layout="segments", on_full="drop") as logger:
        logger.input_queue.put(LogPackage(np.uint8(1), 5, np.zeros(3, np.uint8)))
        logger.input_queue.put_many(1, np.arange(3), np.zeros((3, 4), np.uint8))
    times = [message.timestamp for message in open_log(logger.output_directory).iter(1)]
    assert_type(times, list[int])
    return times
