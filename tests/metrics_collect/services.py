"""Real servers for the tests: each is started by a context manager in a folder of its own."""

from __future__ import annotations

import contextlib
import json
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


@contextlib.contextmanager
def s3_server(folder: pathlib.Path, access_key: str, secret_key: str, bucket: str):
    """Give (endpoint, stop, start) of a SeaweedFS server with one bucket; its data survives stops."""
    import boto3
    from botocore.config import Config

    folder.mkdir(exist_ok=True)
    credentials = [{"accessKey": access_key, "secretKey": secret_key}]
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    identities = [{"name": "tests", "credentials": credentials, "actions": actions}]
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))
    names = [
        "master",
        "master.grpc",
        "volume",
        "volume.grpc",
        "filer",
        "filer.grpc",
        "s3",
        "s3.grpc",
    ]
    ports = {name: free_port() for name in names}
    command = [
        program("weed"),
        *("-logtostderr=true", "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
        *(f"-{n.partition('.')[0]}.port{n.partition('.')[1]}{n.partition('.')[2]}={p}" for n, p in ports.items()),
        *("-filer", "-s3", f"-s3.config={folder / 's3.json'}", "-s3.port.iceberg=0"),
        *("-s3.port.lance=0", "-master.volumeSizeLimitMB=64", "-volume.max=8"),
        "-master.telemetry=false",
    ]  # fmt: skip
    endpoint = f"http://127.0.0.1:{ports['s3']}"
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
    )
    running: list[subprocess.Popen] = []

    def ready() -> bool:
        try:
            if bucket not in {b["Name"] for b in client.list_buckets()["Buckets"]}:
                client.create_bucket(Bucket=bucket)
            client.put_object(Bucket=bucket, Key=".ready", Body=b"")
            client.delete_object(Bucket=bucket, Key=".ready")
        except Exception:
            return False
        return True

    def start() -> None:
        with (folder / "log").open("ab") as log:
            running.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=folder))
        wait_until(ready, 60)

    def stop() -> None:
        process = running.pop()
        process.kill()
        process.wait()

    start()
    try:
        yield endpoint, stop, start
    finally:
        if running:
            stop()
        client.close()
        for port in ports.values():
            for left in pathlib.Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                left.unlink()  # it was killed, and puts them nowhere else
