"""`python -m benchmarks.cache.lmdb_engine.faults`: kills and damage, the same for both engines.

Writes benchmarks/results/faults-cache-engines.json.
"""

from __future__ import annotations

import collections
import datetime as dt
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

ROOT = pathlib.Path(__file__).parents[3]
OUT = ROOT / "benchmarks" / "results" / "faults-cache-engines.json"
KILLS, FLIPS = (int(os.environ.get("KILLS", "200")), int(os.environ.get("FLIPS", "200")))
ENGINES = {
    "ops": "from ops.cache import DiskCache as Store",
    "ops on LMDB": "from benchmarks.cache.lmdb_engine.cache import LmdbCache as Store",
}
# Prints each number after its set has returned. Overwrites, deletes, evicts; some values are files.
WRITER = """
worker, n, max_bytes = int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
store = Store(sys.argv[2], max_bytes=max_bytes)
while True:
    size = 40_000 if n % 50 == 0 else 50 + n % 300
    store.set((worker, n % 500), (worker, n, "x" * size), tag=f"t{n % 3}", ttl=10_000)
    if n % 7 == 0:
        store.delete((worker, (n + 250) % 500))
    with store.transact() as changes:
        changes[f"a{worker}"] = n
        changes[f"b{worker}"] = n
    print(n, flush=True)
    n += 1
"""
# Prints what 50 keys have, of which each value is known, and whether the cache can be written to.
READER = """
import warnings
warnings.simplefilter("ignore")
found = dict.fromkeys(["right", "missing", "wrong", "error"], 0)
try:
    store = Store(sys.argv[2])
    for n in range(50):
        try:
            value = store.get(f"key {n}")
        except Exception:
            found["error"] += 1
        else:
            kind = "missing" if value is None else "right" if value == bytes([n]) * 100 else "wrong"
            found[kind] += 1
    list(store)
    store["after"] = 1
    assert store["after"] == 1
except BaseException as error:
    found["unusable"] = 1
print(json.dumps(found))
"""


def start(engine: str, program: str, *arguments: object) -> subprocess.Popen[str]:
    """Start *program* with the store of *engine*."""
    head = "import json, sys\nsys.path.insert(0, sys.argv[1])\n" + ENGINES[engine]
    command = [sys.executable, "-c", head + program, str(ROOT), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def kills(engine: str, max_bytes: int, count: int) -> dict[str, int]:
    """Kill two writers *count* times; count what of that which was acknowledged is lost or wrong."""
    seen: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        last = [0, 0]
        for _ in range(count):
            writers = [start(engine, WRITER, folder, w, last[w] + 1, max_bytes) for w in (0, 1)]
            for writer in writers:
                assert writer.stdout
                writer.stdout.readline()
            time.sleep(random.random() * 0.05)
            for worker, writer in enumerate(writers):
                writer.send_signal(signal.SIGKILL)
                lines = writer.communicate()[0].split()
                last[worker] = int(lines[-1]) if lines else last[worker] + 1
            seen.update(_check(engine, folder, last, max_bytes))
            seen["writers killed"] += 2
    return dict(seen)


_CHECK = """
last, max_bytes = json.loads(sys.argv[3]), int(sys.argv[4])
seen = dict.fromkeys(["values checked", "acknowledged sets lost", "wrong values", "torn transactions"], 0)
store = Store(sys.argv[2], max_bytes=max_bytes)
for worker, n in enumerate(last):
    value = store.get((worker, n % 500))
    if value is None or value[1] not in (n, n + 500):
        seen["acknowledged sets lost"] += 1
    if store.get(f"a{worker}") != store.get(f"b{worker}"):
        seen["torn transactions"] += 1
    for slot in range(500):
        value = store.get((worker, slot))
        if value is not None:
            seen["values checked"] += 1
            m = value[1]
            size = 40_000 if m % 50 == 0 else 50 + m % 300
            if m % 500 != slot or value != (worker, m, "x" * size):
                seen["wrong values"] += 1
store["probe"] = 1
assert store["probe"] == 1
print(json.dumps(seen))
"""


def _check(engine: str, folder: str, last: list[int], max_bytes: int) -> dict[str, int]:
    checker = start(engine, _CHECK, folder, json.dumps(last), max_bytes)
    output = checker.communicate()[0]
    return json.loads(output) if checker.returncode == 0 else {"caches that cannot be used": 1}


def flips(engine: str, count: int) -> dict[str, int]:
    """Flip one byte of the data file, *count* times from the same start, and read all in a new process."""
    seen: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        maker = start(
            engine,
            "\nstore = Store(sys.argv[2])\nfor n in range(50):\n"
            "    store[f'key {n}'] = bytes([n]) * 100\nstore.close()\n",
            folder,
        )
        maker.communicate()
        file = next(
            p for p in pathlib.Path(folder).iterdir() if p.suffix == ".seg" or p.name == "data.mdb"
        )
        whole = {p: p.read_bytes() for p in pathlib.Path(folder).iterdir() if p.is_file()}
        rng = random.Random(7)
        used = [at for at, byte in enumerate(whole[file]) if byte]  # not the empty part of a page
        for _ in range(count):
            for path in pathlib.Path(folder).iterdir():
                if path.is_file() and path not in whole:
                    path.unlink()
            for path, data in whole.items():
                path.write_bytes(data)
            damaged = bytearray(whole[file])
            damaged[rng.choice(used)] ^= 1 << rng.randrange(8)
            file.write_bytes(damaged)
            reader = start(engine, READER, folder)
            try:
                output = reader.communicate(timeout=60)[0]
            except subprocess.TimeoutExpired:
                reader.kill()
                reader.communicate()
                seen["folders whose reader hangs"] += 1
                continue
            if reader.returncode < 0:
                seen[f"readers ended by {signal.Signals(-reader.returncode).name}"] += 1
                continue
            found = json.loads(output)
            seen["folders damaged"] += 1
            seen["folders with a wrong value"] += found["wrong"] > 0
            seen["folders with missing values"] += found["missing"] > 0
            seen["folders with an error at a read"] += found["error"] > 0
            seen["folders that cannot be written to"] += found.get("unusable", 0)
    return dict(seen)


def main() -> None:
    """Run all and write the file."""
    report: dict[str, Any] = {
        "when": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "engines": {},
    }
    for engine in ENGINES:
        report["engines"][engine] = {
            "killed, 64 MiB": kills(engine, 64 << 20, KILLS // 2),
            "killed, evicting (512 KiB)": kills(engine, 512 << 10, KILLS // 2),
            "one byte flipped": flips(engine, FLIPS),
        }
        print(engine, json.dumps(report["engines"][engine], indent=1), flush=True)
    OUT.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
