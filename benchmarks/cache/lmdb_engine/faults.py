"""`python -m benchmarks.cache.lmdb_engine.faults`: kills and damage, the same for both engines.

Writers and readers are forked from a process that has imported everything and opened nothing. Writes
benchmarks/results/faults-cache-engines.json.
"""

from __future__ import annotations

import collections
import datetime as dt
import json
import os
import pathlib
import random
import select
import signal
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

from benchmarks.cache.lmdb_engine.cache import LmdbCache
from benchmarks.harness import RESULTS
from ops.cache import DiskCache

OUT = RESULTS / "faults-cache-engines.json"
ROUNDS, FLIPS = int(os.environ.get("ROUNDS", "100")), int(os.environ.get("FLIPS", "200"))
ENGINES: dict[str, Any] = {"ops": DiskCache, "ops on LMDB": LmdbCache}
SLOTS = 500


class Child:
    """A forked process that runs *work* with the number of a pipe to write to."""

    def __init__(self, work: Callable[[int], None]) -> None:
        self._reading, writing = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            code = 1
            try:
                work(writing)
                code = 0
            finally:
                os._exit(code)
        os.close(writing)

    def wait_for_output(self) -> None:
        """Wait until it has written something."""
        select.select([self._reading], [], [], 60)

    def end(self, *, kill: bool = False, seconds: float = 60) -> tuple[int, str]:
        """Return how it ended, as `os.waitstatus_to_exitcode` does, and what it wrote; -9 when it hung."""
        deadline = time.monotonic() + seconds
        if kill:
            os.kill(self.pid, signal.SIGKILL)
        while not (ended := os.waitpid(self.pid, os.WNOHANG))[0]:
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                deadline += 60
            time.sleep(0.0005)
        with open(self._reading, encoding="utf-8") as output:
            return os.waitstatus_to_exitcode(ended[1]), output.read()


def size_of(n: int) -> int:
    """Return the length of the value number *n*; some are files of their own."""
    return 40_000 if n % 50 == 0 else 50 + n % 300


def write(store: Any, worker: int, n: int, output: int) -> None:
    """Overwrite, delete and change in transactions for ever; report each number after its set."""
    while True:
        store.set((worker, n % SLOTS), (worker, n, "x" * size_of(n)), tag=f"t{n % 3}", ttl=10_000)
        if n % 7 == 0:
            store.delete((worker, (n + SLOTS // 2) % SLOTS))
        with store.transact() as changes:
            changes[f"a{worker}"] = n
            changes[f"b{worker}"] = n
        os.write(output, b"%d\n" % n)
        n += 1


def check(store: Any, last: list[int], output: int) -> None:
    """Report what of that which was acknowledged is lost, wrong or torn."""
    seen: collections.Counter[str] = collections.Counter()
    for worker, n in enumerate(last):
        value = store.get((worker, n % SLOTS))
        seen["acknowledged sets lost"] += value is None or value[1] not in {n, n + SLOTS}
        seen["torn transactions"] += store.get(f"a{worker}") != store.get(f"b{worker}")
        for slot in range(SLOTS):
            value = store.get((worker, slot))
            if value is not None:
                m = value[1]
                is_right = m % SLOTS == slot and value == (worker, m, "x" * size_of(m))
                seen["values checked"] += 1
                seen["wrong values"] += not is_right
    store["probe"] = 1
    assert store["probe"] == 1
    os.write(output, json.dumps(seen).encode())


def kills(engine: Any, max_bytes: int, rounds: int) -> dict[str, int]:
    """Kill two writers at once in each round, and check what they leave."""
    seen: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        last = [0, 0]
        for _ in range(rounds):
            writers = [
                Child(
                    lambda out, w=w: write(engine(folder, max_bytes=max_bytes), w, last[w] + 1, out)
                )
                for w in (0, 1)
            ]
            for writer in writers:
                writer.wait_for_output()
            time.sleep(random.random() * 0.05)
            for worker, writer in enumerate(writers):
                lines = writer.end(kill=True)[1].split()
                last[worker] = int(lines[-1]) if lines else last[worker]
                seen["writers killed"] += 1
            code, found = Child(
                lambda out: check(engine(folder, max_bytes=max_bytes), last, out)
            ).end()
            seen.update({"caches that cannot be used": 1} if code else json.loads(found))
        seen["sets acknowledged"] = sum(last)
    return dict(seen)


def read_damaged(open_store: Callable[[], Any], output: int) -> None:
    """Report what 50 keys have, of which each value is known, and whether the cache can be written to."""
    warnings.simplefilter("ignore")
    found = dict.fromkeys(["right", "missing", "wrong", "error", "unusable"], 0)
    try:
        store = open_store()
        for n in range(50):
            try:
                value = store.get(f"key {n}")
            except Exception:
                found["error"] += 1
            else:
                is_right = value == bytes([n]) * 100
                found["missing" if value is None else "right" if is_right else "wrong"] += 1
        list(store)
        store["after"] = 1
        assert store["after"] == 1
    except Exception:
        found["unusable"] = 1
    os.write(output, json.dumps(found).encode())


def flips(engine: Any, count: int) -> dict[str, int]:
    """Flip one bit of the data file, *count* times from the same start, and read all in a new process."""
    seen: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        Child(
            lambda _: engine(folder).set_many({f"key {n}": bytes([n]) * 100 for n in range(50)})
        ).end()
        whole = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        file = next(p for p in whole if p.suffix == ".seg" or p.name == "data.mdb")
        rng = random.Random(7)
        used = [at for at, byte in enumerate(whole[file]) if byte]  # not the empty part of a page
        for _ in range(count):
            for path in [*folder.iterdir()]:
                if path.is_file() and path not in whole:
                    path.unlink()
            for path, data in whole.items():
                path.write_bytes(data)
            damaged = bytearray(whole[file])
            damaged[rng.choice(used)] ^= 1 << rng.randrange(8)
            file.write_bytes(damaged)
            code, output = Child(lambda out: read_damaged(lambda: engine(folder), out)).end(
                seconds=20
            )
            seen["bits flipped"] += 1
            if code < 0:
                seen[f"readers ended by {signal.Signals(-code).name}"] += 1
                continue
            found = json.loads(output)
            seen["folders with a wrong value"] += found["wrong"] > 0
            seen["folders with missing values"] += found["missing"] > 0
            seen["folders with an error at a read"] += found["error"] > 0
            seen["folders that cannot be used"] += found["unusable"]
    return dict(seen)


def main() -> None:
    """Run all and write the file."""
    report: dict[str, Any] = {
        "when": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "engines": {},
    }
    for name, engine in ENGINES.items():
        report["engines"][name] = {
            "killed, 64 MiB": kills(engine, 64 << 20, ROUNDS),
            "killed, evicting, 512 KiB": kills(engine, 512 << 10, ROUNDS),
            "damaged": flips(engine, FLIPS),
        }
        print(name, json.dumps(report["engines"][name], indent=1), flush=True)
    OUT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
