"""Logging one message: CPU and wall time beside a database, a recording format and a bare append."""

from __future__ import annotations

import pathlib
import tempfile
import zlib

import lmdb
import numpy as np
from benchmarks.harness import Case, Measure, Target
from mcap.writer import Writer

from ops.datalog import DataLogger, LogPackage


def cases():
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        logger = DataLogger(root, layout="segments")
        logger.start()
        sink = logger.input_queue
        payload = np.random.default_rng(0).integers(0, 256, 64, np.uint8).tobytes()
        package = LogPackage(1, 1, np.frombuffer(payload, np.uint8))

        environment = lmdb.open(str(root / "lmdb"), map_size=1 << 33, sync=False)
        counter = iter(range(1 << 40))

        def lmdb_put() -> None:
            with environment.begin(write=True) as transaction:
                transaction.put(next(counter).to_bytes(8, "big"), payload)

        mcap = Writer(str(root / "log.mcap"))
        mcap.start()
        schema = mcap.register_schema("bytes", "", b"")
        channel = mcap.register_channel("topic", "", schema)

        def mcap_put() -> None:
            mcap.add_message(channel, 1, payload, 1)

        raw = (root / "raw").open("ab", buffering=0)
        contenders = {
            "ops-datalog": lambda: sink.log(1, 1, payload),
            "ops-datalog, LogPackage": lambda: sink.put(package),
            "LMDB transaction, no sync": lmdb_put,
            "MCAP": mcap_put,
            "bare append": lambda: raw.write(payload),
        }
        yield Case(
            "one message of 64 bytes",
            contenders,
            (Target("LMDB transaction, no sync", at_least=2), Target(at_most=2e-6)),
            packages=("lmdb", "mcap"),
        )
        yield Case(
            "CPU of one message of 64 bytes",
            contenders,
            (Target("MCAP", at_least=4),),
            measure=Measure.CPU,
            number=20_000,
            packages=("lmdb", "mcap"),
        )
        times, rows = np.arange(1000), np.zeros((1000, 64), np.uint8)
        yield Case(
            "1000 messages of 64 bytes at once, per message",
            {"ops-datalog put_many": lambda: sink.put_many(1, times, rows)},
            (Target(at_most=1e-7),),
            divide=1000,
            rounds=5,
            number=200,
        )

        # The checksum of zlib takes about as long as the append: what is bare of all but these two is the
        # limit for a log whose damage is found.
        def checked_append() -> None:
            zlib.crc32(large)
            raw.write(large)

        large = np.random.default_rng(0).integers(0, 256, 100_000, np.uint8)
        yield Case(
            "one message of 100 KB",
            {
                "ops-datalog": lambda: sink.log(1, 1, large),
                "bare append": lambda: raw.write(large),
                "bare append and its CRC-32": checked_append,
            },
            (
                Target("bare append", at_least=0.8),
                Target("bare append and its CRC-32", at_least=0.8),
            ),
            number=200,
        )
        with_crc32c = DataLogger(root, "crc32c", layout="segments", checksum="crc32c")
        with_crc32c.start()
        queue = with_crc32c.input_queue
        yield Case(
            "one message of 100 KB, CRC-32C",
            {
                "ops-datalog": lambda: queue.log(1, 1, large),
                "bare append": lambda: raw.write(large),
            },
            (Target("bare append", at_least=0.8),),
            number=200,
            packages=("google-crc32c",),
        )
        with_crc32c.stop()
        mcap.finish()
        raw.close()
        environment.close()
        logger.stop()
