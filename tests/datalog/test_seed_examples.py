"""The DataLogger example of the product's documents; only the import lines differ."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time as tm
from pathlib import Path

import numpy as np

from ops.datalog import DataLogger, LogPackage, compress_npy_logs


def test_logger_creation_and_use() -> None:
    tempdir = tempfile.TemporaryDirectory()
    logger = DataLogger(output_directory=Path(tempdir.name), instance_name="my_name")
    logger.start()
    logger_queue = logger.input_queue
    source_id = np.uint8(1)
    timestamp = np.uint64(tm.perf_counter_ns())
    data = np.array([1, 2, 3, 4, 5], dtype=np.uint8)
    logger_queue.put(LogPackage(source_id, timestamp, data))
    timestamp = np.uint64(tm.perf_counter_ns())
    data = np.array([6, 7, 8, 9, 10], dtype=np.uint8)
    logger_queue.put(LogPackage(source_id, timestamp, data))
    logger.stop()
    assert len(list(logger.output_directory.glob("**/*.npy"))) == 2
    logger.compress_logs(remove_sources=True)
    assert len(list(logger.output_directory.glob("**/*.npy"))) == 0
    assert len(list(logger.output_directory.glob("**/*.npz"))) == 1
    tempdir.cleanup()


def test_log_compression_without_an_instance(tmp_path) -> None:
    with DataLogger(tmp_path) as logger:
        logger.input_queue.put(LogPackage(5, 1, b"x"))
    compress_npy_logs(logger.output_directory)
    assert (logger.output_directory / "5_log.npz").exists()


def test_the_example_runs_as_a_program_of_its_own(tmp_path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import multiprocessing, sys\n"
        "from ops.datalog import DataLogger, LogPackage\n"
        "def produce(queue, source):\n"
        "    for n in range(100): queue.put(LogPackage(source, n, bytes(5)))\n"
        "if __name__ == '__main__':\n"
        "    for method in ('spawn', 'fork', 'forkserver'):\n"
        "        context = multiprocessing.get_context(method)\n"
        "        logger = DataLogger(sys.argv[1], method); logger.start()\n"
        "        workers = [context.Process(target=produce, args=(logger.input_queue, s)) for s in (1, 2)]\n"
        "        [w.start() for w in workers]; [w.join() for w in workers]\n"
        "        logger.stop()\n"
        "        assert len(list(logger.output_directory.glob('*.npy'))) == 200\n",
        encoding="utf-8",
    )
    subprocess.run([sys.executable, str(program), str(tmp_path)], check=True)
