"""The commands that read many rows keep their process small; what is counted are bytes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from benchmarks.metrics_collect.report import write_tarballs

REPORT = """
import json, sys
from ops.metrics_collect.__main__ import main
code = main(["report", "--report", "ccspv2", "--ship", sys.argv[1], "-o", sys.argv[2], "--quiet"])
import pyarrow as pa
status = open("/proc/self/status").read()
print(json.dumps({
    "code": code,
    "pandas": "pandas" in sys.modules,
    "pool": pa.default_memory_pool().backend_name,
    "peak": int(status.partition("VmHWM:")[2].split()[0]) * 1024,
    "frame": pa.table({"a": [1]}).to_pandas()["a"].tolist(),
}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from /proc")
def test_a_report_of_many_rows_is_made_in_little_memory(tmp_path):
    pytest.importorskip("xlsxwriter")
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    write_tarballs(shipped, 150_000)
    command = [sys.executable, "-c", REPORT, str(shipped), str(tmp_path / "report.xlsx")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    peak = found.pop("peak")
    assert found == {"code": 0, "pandas": False, "pool": "system", "frame": [1]}
    assert peak < 235_000_000, peak


def test_a_process_that_uses_arrow_already_is_left_alone(tmp_path):
    program = (
        "import pyarrow as pa; before = pa.default_memory_pool().backend_name\n"
        "from ops.metrics_collect.process_memory import economize; economize()\n"
        "import sys; pa.array([1])\n"
        "assert pa.default_memory_pool().backend_name == before\n"
        "assert 'pandas' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path)
