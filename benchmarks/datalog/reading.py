"""Going through a log in time order, beside a recording format; archiving it beside NumPy."""

from __future__ import annotations

import pathlib
import tempfile
import time

import numpy as np
from benchmarks.harness import Case, Measure, Target
from mcap.reader import make_reader
from mcap.writer import Writer

from ops.datalog import DataLogger, compress_npy_logs

MESSAGES = 1_000_000
ARCHIVED = 20_000


def cases():
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        rng = np.random.default_rng(0)
        payloads = [rng.integers(0, 256, 64, np.uint8).tobytes() for _ in range(64)]
        with DataLogger(root, layout="segments") as logger:
            for number in range(MESSAGES):
                logger.input_queue.log(1, number, payloads[number & 63])
        log = logger.read()
        path = root / "log.mcap"
        with path.open("wb") as file:
            mcap = Writer(file)
            mcap.start()
            channel = mcap.register_channel("topic", "", mcap.register_schema("bytes", "", b""))
            for number in range(MESSAGES):
                mcap.add_message(channel, number, payloads[number & 63], number)
            mcap.finish()

        def with_mcap() -> None:
            with path.open("rb") as file:
                for _ in make_reader(file).iter_messages():
                    pass

        def one_by_one() -> None:
            for _ in log.iter(1):
                pass

        yield Case(
            "iterate a million messages, per message",
            {"ops-datalog": one_by_one, "MCAP": with_mcap},
            (Target("MCAP", at_least=25),),
            number=1,
            rounds=3,
            divide=MESSAGES,
            packages=("mcap",),
        )
        yield Case(
            "a million messages as columns, per message",
            {"ops-datalog": lambda: log.columns(1)},
            number=1,
            rounds=3,
            divide=MESSAGES,
        )
        yield Case(
            "a range of a thousand times out of a million",
            {
                "ops-datalog": lambda: list(log.iter(1, 500_000, 501_000)),
                "MCAP": lambda: _mcap_range(path),
            },
            number=1,
            rounds=5,
            packages=("mcap",),
        )
        fresh = iter(range(1000))

        def archive() -> float:
            with DataLogger(root / f"a{next(fresh)}", layout="segments", sync="none") as short:
                for number in range(ARCHIVED):
                    short.input_queue.log(1, number, payloads[number & 63])
            start = time.perf_counter()
            compress_npy_logs(short.output_directory, True, compress=False)
            return time.perf_counter() - start

        def with_numpy() -> float:
            target = root / f"n{next(fresh)}"
            target.mkdir()
            for number in range(ARCHIVED):
                array = np.frombuffer(payloads[number & 63], np.uint8)
                np.save(target / f"001_{number:020d}.npy", array)
            start = time.perf_counter()
            arrays = {file.stem: np.load(file) for file in sorted(target.iterdir())}
            np.savez(target / "1_log.npz", **arrays)
            return time.perf_counter() - start

        yield Case(
            "archive 20 000 messages of one source, per message",
            {"ops-datalog from segments": archive, "numpy.load and savez of .npy": with_numpy},
            measure=Measure.RETURNED,
            rounds=5,
            divide=ARCHIVED,
            packages=("numpy",),
        )


def _mcap_range(path: pathlib.Path) -> None:
    with path.open("rb") as file:
        for _ in make_reader(file).iter_messages(start_time=500_000, end_time=501_000):
            pass
