"""How users call ops.shm; checked by mypy and pyright, never run."""

from __future__ import annotations

import numpy as np

from ops.shm import SharedMemoryArray


def share(values: np.ndarray) -> str:
    with SharedMemoryArray.create_array("name", values, exist_ok=True) as array:
        array[0] = 1
        with array.array(write=True, timeout=1.5) as held:
            held[0] += 1
        return array.name
