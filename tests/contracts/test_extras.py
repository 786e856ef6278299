"""An extra brings all that its part of the package needs: each is installed alone, from wheels, and used."""

from __future__ import annotations

import pathlib
import subprocess
from collections.abc import Callable

import pytest
from tests.contracts import guards

ROOT = pathlib.Path(__file__).parents[2]

#: What a user of the extra does first.
USES = {
    "ops-cache[numpy]": """
import numpy as np
from ops.cache import DiskCache
with DiskCache("embeddings") as store:
    store.set(("array", 7), np.zeros((1000, 1000)))
    assert store[("array", 7)].shape == (1000, 1000)
""",
    "ops-cache[redis]": """
from ops.cache import RedisCache
assert RedisCache("redis://127.0.0.1:1/0", "name").get("key") is None  # works on without its server
""",
    "ops-datalog[arrow]": """
from ops.datalog import DataLogger, LogPackage, open_log
with DataLogger("logs", layout="segments") as logger:
    logger.input_queue.put(LogPackage(source_id=1, timestamp=10, data=b"x"))
assert open_log(logger.output_directory).to_arrow(1).num_rows == 1
""",
    "ops-datalog[crc]": """
from ops.datalog import DataLogger, LogPackage, open_log
with DataLogger("logs", layout="segments", checksum="crc32c") as logger:
    logger.input_queue.put(LogPackage(source_id=1, timestamp=10, data=b"x"))
assert open_log(logger.output_directory).verify().messages == 1
""",
    "ops-datalog[mat]": """
from ops.datalog import DataLogger, LogPackage, open_log
with DataLogger("logs", layout="segments") as logger:
    logger.input_queue.put(LogPackage(source_id=1, timestamp=10, data=b"x"))
assert open_log(logger.output_directory).to_mat("x.mat").is_file()
""",
    "ops-datalog[mcap]": """
from ops.datalog import DataLogger, LogPackage, open_log
with DataLogger("logs", layout="segments") as logger:
    logger.input_queue.put(LogPackage(source_id=1, timestamp=10, data=b"x"))
assert open_log(logger.output_directory).to_mcap("x.mcap").is_file()
""",
    "ops-datalog[pandas]": """
from ops.datalog import DataLogger, LogPackage, open_log
with DataLogger("logs", layout="segments") as logger:
    logger.input_queue.put(LogPackage(source_id=1, timestamp=10, data=b"x"))
assert len(open_log(logger.output_directory).to_pandas(1)) == 1
""",
    "ops-foundation[completion]": """
from ops.foundation.command_line import CommandLine
try:
    CommandLine("ops-foundation", "Nothing.")(["--print-completion", "bash"])
except SystemExit as done:
    assert done.code == 0
""",
    "ops-foundation[fast]": """
from ops.foundation import calculate_hash
assert calculate_hash(b"a", "blake3") != calculate_hash(b"a", "xxh3_128")
""",
    "ops-foundation[lock]": """
from ops.foundation import FileLock
with FileLock("x.lock"):
    import filelock
""",
    "ops-foundation[password]": """
from ops.foundation.passwords import hash_password, verify_password
assert verify_password("secret", hash_password("secret", scheme="argon2"))
""",
    "ops-foundation[watch]": """
from ops.foundation import watch_directory
import watchfiles
with watch_directory(".", lambda *_: None):
    pass
""",
    "ops-metrics-collect[conformance]": """
import ops.metrics_collect.conformance
from ops.metrics_collect.conformance import StorageBehaviour
""",
    "ops-metrics-collect[dask]": """
import distributed
from ops.metrics_collect import DataframeActivity
DataframeActivity("runs", by=["model"])
""",
    "ops-metrics-collect[duckdb]": """
import duckdb
from ops.metrics_collect import DataframeActivity
DataframeActivity("runs", by=["model"], engine="duckdb")
""",
    "ops-metrics-collect[http]": """
from ops.metrics_collect import StorageSegment
StorageSegment(write_key="key")
""",
    "ops-metrics-collect[postgres]": """
import psycopg, yaml
from ops.metrics_collect.collectors import controller
assert controller.main_host
""",
    "ops-metrics-collect[report]": """
import pandas, xlsxwriter
from ops.metrics_collect import ReportActivity
""",
    "ops-metrics-collect[s3]": """
from ops.metrics_collect import StorageS3
StorageS3("bucket", region="eu-central-1")
""",
    "ops-observe[gpu]": """
from ops.observe import get_gpu_info
assert get_gpu_info() == [] or get_gpu_info()
""",
    "ops-observe[otel]": """
from opentelemetry import metrics
from ops.observe import MetricsCollector, observe_with_opentelemetry
observe_with_opentelemetry(MetricsCollector(), metrics.get_meter("ops"))
""",
    "ops-observe[prometheus]": """
import prometheus_client
from ops.observe import MetricsCollector, PrometheusCollector
prometheus_client.REGISTRY.register(PrometheusCollector(MetricsCollector()))
""",
    "ops-observe[system]": """
from ops.observe import get_system_info
assert get_system_info().cpu_count
""",
    "ops-registry[conformance]": """
import ops.registry.conformance
""",
    "ops-registry[databricks]": """
import databricks.sdk, databricks.sql, httpx, ops.registry
""",
    "ops-registry[joblib]": """
import joblib, ops.registry
""",
    "ops-registry[lightgbm]": """
import lightgbm, ops.registry
""",
    "ops-registry[mlflow]": """
import mlflow
mlflow.set_tracking_uri("ops-registry:store")
with mlflow.start_run():
    mlflow.log_param("depth", 3)
""",
    "ops-registry[onnx]": """
import onnxruntime, ops.registry
""",
    "ops-registry[s3]": """
import boto3, ops.registry
""",
    "ops-registry[tensorboard]": """
from pathlib import Path
from ops.registry.importing import foreign_store
Path("logs").mkdir()
Path("logs/events.out.tfevents.1790000000.host").touch()
assert foreign_store("logs").experiments()[0].name == "logs"
""",
    "ops-registry[ui]": """
import jinja2, starlette, uvicorn, ops.registry
""",
    "ops-registry[yaml]": """
from pathlib import Path
from ops.registry import MLOpsConfig
Path("c.yaml").write_text("storage_path: here\\n")
assert MLOpsConfig.from_yaml("c.yaml").storage_path
""",
    "ops-resilience[http]": """
from ops.resilience import HTTPClient
HTTPClient().close()
""",
    "ops-serialize[all]": """
import importlib.util, msgspec, numpy, pandas, pyarrow, xxhash, yaml
assert importlib.util.find_spec("torch") is None
""",
    "ops-serialize[arrow]": """
import pyarrow as pa
from ops.serialize import SmartSerializer
s = SmartSerializer()
assert s.deserialize(s.serialize(pa.table({"a": [1]}))).num_rows == 1
""",
    "ops-serialize[hash]": """
import xxhash
from ops.serialize import digest
digest([1, 2])
""",
    "ops-serialize[json]": """
import msgspec
from ops.serialize import SmartSerializer
s = SmartSerializer()
assert s.deserialize(s.serialize({"a": 1})) == {"a": 1}
""",
    "ops-serialize[numpy]": """
import numpy as np
from ops.serialize import SmartSerializer
s = SmartSerializer()
assert s.deserialize(s.serialize(np.arange(3))).sum() == 3
""",
    "ops-serialize[pandas]": """
import pandas as pd
from ops.serialize import SmartSerializer
s = SmartSerializer()
assert s.deserialize(s.serialize(pd.DataFrame({"a": [1]}))).shape == (1, 1)
""",
    "ops-serialize[yaml]": """
import dataclasses
from ops.serialize import YamlConfig
@dataclasses.dataclass
class Settings(YamlConfig):
    depth: int = 3
Settings().to_yaml("s.yaml")
""",
}
#: Gigabytes, or GPU libraries beside: their bounds are all that is checked here.
TOO_LARGE = {"ops-registry[torch]", "ops-registry[xgboost]", "ops-serialize[torch]"}


def extras() -> set[str]:
    return {
        f"{dist.name}[{extra}]"
        for dist in guards.libraries(ROOT)
        for extra in dist.project.get("optional-dependencies", {})
    }


def test_each_extra_has_a_use_here() -> None:
    assert extras() == {*USES, *TOO_LARGE}


@pytest.mark.parametrize("extra", sorted(USES))
def test_an_extra_alone_is_enough_for_what_it_is_for(
    extra: str,
    wheels: dict[str, pathlib.Path],
    fresh_environment: Callable[..., pathlib.Path],
    tmp_path: pathlib.Path,
) -> None:
    python = fresh_environment("--find-links", wheels["ops-cache"].parent, extra)
    command = [str(python), "-I", "-c", USES[extra]]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 0, result.stderr


def test_torch_is_never_of_a_version_that_runs_code_from_weights() -> None:
    """CVE-2025-32434: before 2.6, `weights_only=True` did not hold."""
    for dist in guards.libraries(ROOT):
        for requirement in (*dist.hard(), *dist.optional()):
            if requirement.name == "torch":
                assert not requirement.specifier.contains("2.5.1"), dist.name
