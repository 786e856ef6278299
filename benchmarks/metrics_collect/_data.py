"""Rows of job_host_summary as the collectors write them, and programs measured in a process of their own."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

HOSTS = 20_000
JOBS = 10_000
KEYS = (
    "organization_name",
    "job_template_name",
    "host_name",
    "original_host_name",
    "install_uuid",
    "job_remote_id",
    "managed_node_type",
)
#: Rolls up the CSV that is its first argument within 100 MB, into the Parquet file that is its second.
STREAMED = """
import sys
from ops.metrics_collect import DataframeJobHostSummary
DataframeJobHostSummary(memory_bytes=100_000_000).add_csv(sys.argv[1]).to_parquet(sys.argv[2])
"""


def write_rows(path: pathlib.Path, rows: int, *, first: int = 0) -> pathlib.Path:
    """Write *rows* rows with ids from *first* on, a hundred for each job."""
    with path.open("wb") as sink:
        writer = None
        for start in range(first, first + rows, 250_000):
            table = _table(np.arange(start, min(start + 250_000, first + rows)))
            writer = writer or csv.CSVWriter(sink, table.schema)
            writer.write_table(table)
        writer.close()
    return path


def _table(ids: np.ndarray) -> pa.Table:
    job = ids // 100
    host = (job * 37 + ids) % HOSTS

    def numbered(prefix: str, numbers: np.ndarray, suffix: str = "") -> pa.Array:
        return pc.binary_join_element_wise(prefix, pa.array(numbers).cast(pa.string()), suffix, "")

    day = np.datetime64("2026-10-01T00:00:00", "s")
    moments = pa.array(day + (job % 80_000).astype("timedelta64[m]"), pa.timestamp("s"))
    moment = pc.binary_join_element_wise(
        pc.strftime(moments, "%Y-%m-%d %H:%M:%S"), pa.scalar("+00"), ""
    )
    zero = pa.array(np.zeros(len(ids), np.int64))
    variable = pc.if_else(
        pa.array(host % 4 == 0), numbered("10.0.0.", host), pa.scalar(None, pa.string())
    )
    return pa.table(
        {
            "id": ids,
            "created": moment,
            "modified": moment,
            "host_name": numbered("host-", host, ".example.com"),
            "host_remote_id": host,
            "changed": ids % 5,
            "dark": pa.array((host % 50 == 0).astype(np.int64)),
            "failures": pa.array((host % 30 == 0).astype(np.int64)),
            "ok": host * 7 % 30,
            "processed": pc.add(zero, 1),
            "skipped": host % 3,
            "failed": pa.array(["f"] * len(ids)),
            "ignored": zero,
            "rescued": zero,
            "job_created": moment,
            "job_remote_id": job,
            "job_template_remote_id": job % 150,
            "job_template_name": numbered("Template ", job % 150),
            "inventory_remote_id": job % 50,
            "inventory_name": numbered("Inventory ", job % 50),
            "organization_remote_id": job % 20,
            "organization_name": numbered("Organization ", job % 20),
            "project_remote_id": job % 50,
            "project_name": numbered("Project ", job % 50),
            "ansible_host_variable": variable,
            "ansible_connection_variable": pc.if_else(
                pc.is_null(variable), pa.scalar(None, pa.string()), pa.scalar("ssh")
            ),
        }
    )


def peak_megabytes(program: str, *arguments: object) -> float:
    """Run *program* in a new process and return the most memory it had resident, in MB (Linux).

    Not ru_maxrss, which a child inherits from the process that started it.
    """
    code = f"{program}\nprint(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0])"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return int(output.split()[-1]) * 1024 / 1e6
