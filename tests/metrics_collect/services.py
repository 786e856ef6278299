"""Real servers for the tests: each is started by a context manager in a folder of its own."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def program(name: str, *folders: str) -> str | None:
    """Return the path of an executable: beside this Python, in PATH or in *folders*."""
    here = str(pathlib.Path(sys.executable).parent)
    return shutil.which(name, path=os.pathsep.join([here, os.environ.get("PATH", ""), *folders]))


def postgres_program(name: str) -> str | None:
    folders = sorted(map(str, pathlib.Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
    # The versioned folders first: a wrapper in PATH may start another version.
    path = shutil.which(name, path=os.pathsep.join(folders)) if folders else None
    return path or program(name)


@contextlib.contextmanager
def postgres_server():
    """Give a DSN without database name of a PostgreSQL server that lives as long as the block."""
    as_root = os.geteuid() == 0
    folder = pathlib.Path(tempfile.mkdtemp(prefix="ops-postgres-", dir="/tmp"))
    user = {"user": "postgres", "group": "postgres", "extra_groups": []} if as_root else {}
    if as_root:
        shutil.chown(folder, "postgres", "postgres")
    data, port = folder / "data", free_port()

    def call(*command: str) -> None:
        subprocess.run(
            command, check=True, cwd=folder, stdout=subprocess.DEVNULL, timeout=60, **user
        )

    options = (
        f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c dynamic_shared_memory_type=mmap "
        "-c fsync=off -c max_locks_per_transaction=1024 -c shared_buffers=64MB"
    )
    try:
        call(
            postgres_program("initdb"), "-D", str(data), "-U", "postgres", "-A", "trust",
            "-E", "UTF8", "--locale=C", "--no-sync",
        )  # fmt: skip
        pg_ctl = postgres_program("pg_ctl")
        call(pg_ctl, "-D", str(data), "-o", options, "-l", str(folder / "log"), "-w", "start")
        try:
            yield f"host=127.0.0.1 port={port} user=postgres"
        finally:
            call(pg_ctl, "-D", str(data), "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def controller_sql(hosts: int, jobs: int, per_job: int, hours: int | None = None) -> str:
    """Return schema and content of the controller database, with *hours* hourly partitions."""
    sizes = {"H": hosts, "J": jobs, "PER": per_job}
    fill = (HERE / "controller_db" / "fill.sql").read_text("utf-8")
    fill = re.sub(r"(?m)^\\set .*$", "", fill)
    fill = re.sub(r"(?<!:):(H|J|PER)\b", lambda m: str(sizes[m[1]]), fill)
    if hours is not None:
        fill = fill.replace(
            "'2026-10-29'::timestamptz,'1 hour'",
            f"'2026-10-01'::timestamptz + interval '{hours} hour','1 hour'",
        )
    return (HERE / "controller_db" / "schema.sql").read_text("utf-8") + fill


def wait_until(ready, seconds: float = 30.0) -> None:
    """Poll *ready* until it is true; a server that does not come up is an error."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not ready within {seconds} s")
        time.sleep(0.05)
