"""The SharedMemoryArray examples of the product's documents; only the import lines differ."""

from __future__ import annotations

import numpy as np

from ops.shm import SharedMemoryArray


def test_array_creation() -> None:
    prototype = np.array([1, 2, 3, 4, 5, 6], dtype=np.uint64)
    buffer_name = "unique_buffer"
    sma = SharedMemoryArray.create_array(name=buffer_name, prototype=prototype, exist_ok=True)
    assert sma.name == buffer_name
    assert sma.shape == prototype.shape
    assert sma.datatype == prototype.dtype
    sma.disconnect()
    sma.destroy()


def test_connection_and_disconnection() -> None:
    prototype = np.zeros(shape=6, dtype=np.uint64)
    buffer_name = "unique_buffer"
    sma = SharedMemoryArray.create_array(name=buffer_name, prototype=prototype)
    sma.connect()
    assert sma.is_connected
    sma.disconnect()
    assert not sma.is_connected
    sma.destroy()


def test_reading() -> None:
    prototype = np.array([1, 2, 3, 4, 5, 6], dtype=np.uint64)
    buffer_name = "unique_buffer"
    sma = SharedMemoryArray.create_array(name=buffer_name, prototype=prototype)
    sma.connect()
    output = sma.read_data(index=2)
    assert output == np.uint64(3)
    assert isinstance(output, np.uint64)
    output = sma.read_data(index=(1, 4), convert_output=False, with_lock=False)
    assert np.array_equal(output, np.array([2, 3, 4], dtype=np.uint64))
    assert isinstance(output, np.ndarray)
    sma.destroy()


def test_writing() -> None:
    prototype = np.array([1, 2, 3, 4, 5, 6], dtype=np.uint64)
    buffer_name = "unique_buffer"
    sma = SharedMemoryArray.create_array(name=buffer_name, prototype=prototype)
    sma.connect()
    sma.write_data(index=1, data=7, with_lock=True)
    assert sma.read_data(index=1, convert_output=True) == 7
    sma.write_data(index=(1, 3), data=[10, 11], with_lock=False)
    assert sma.read_data(index=(0,), convert_output=True) == [1, 10, 11, 4, 5, 6]
    sma.destroy()
