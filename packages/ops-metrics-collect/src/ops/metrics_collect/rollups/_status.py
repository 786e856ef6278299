"""What was collected when, and how that ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from ops.metrics_collect.rollups._base import Rollup
from ops.metrics_collect.rollups._columns import (
    TIMESTAMP,
    constant,
    first_of,
    number,
    text,
    utc_times,
)
from ops.metrics_collect.rollups._engine import Measure

if TYPE_CHECKING:
    from collections.abc import Mapping

# Its functions are made when it is imported, so that no static tool knows them.
pc: Any = pyarrow.compute

__all__ = ["DataframeDataCollectionStatus"]


class DataframeDataCollectionStatus(Rollup):
    """Rollup of the status files of tarballs.

    `runs` counts the rows of the files, of which there is one for each payload file of a collection;
    `elapsed` is the longest in seconds. `since` and `until` are ISO 8601 texts, or empty.
    """

    collections: tuple[str, ...] = ("data_collection_status",)
    keys: Mapping[str, pa.DataType] = {
        "collector": pa.string(),
        "since": pa.string(),
        "until": pa.string(),
        "status": pa.string(),
        "install_uuid": pa.string(),
    }
    measures: tuple[Measure, ...] = (
        Measure("collection_start_timestamp", "min", TIMESTAMP),
        Measure("runs", "sum", pa.int64()),
        Measure("elapsed", "max", pa.float64()),
    )

    def prepare(self, raw: pa.Table, config: Mapping[str, Any], collection: str) -> pa.Table:  # noqa: ARG002
        """Turn texts into times and numbers."""
        names = ("since", "until", "status")
        # Other programs write no column for it: the collector is what the file is named after.
        files = pc.replace_substring_regex(
            text(raw, "file_name").cast(pa.string()), r"(-\d{6})?\.[^.]*$", ""
        )
        return pa.table(
            {
                "collector": first_of(text(raw, "collector"), files),
                **{name: text(raw, name) for name in names},
                "install_uuid": constant(str(config.get("install_uuid", "")), raw.num_rows),
                "collection_start_timestamp": utc_times(raw, "collection_start_timestamp"),
                "runs": pa.array(np.ones(raw.num_rows, np.int64)),
                "elapsed": number(raw, "elapsed", pa.float64()),
            }
        )
