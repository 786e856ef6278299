"""Usage data collected, packed, shipped, rolled up and reported, every row exactly once.

Names load on first use: `import ops.metrics_collect` loads neither pyarrow nor pandas.
"""

from typing import TYPE_CHECKING

from ops.foundation.lazy import lazy_exports

if TYPE_CHECKING:
    from ops.metrics_collect.collectors import (
        Collector,
        CollectorFactory,
        collector,
        query_collector,
    )
    from ops.metrics_collect.dedup import (
        Deduplication,
        host_identities,
    )
    from ops.metrics_collect.errors import (
        BrokenTarballError,
        MetricsError,
        MetricsErrorCode,
        ObjectExists,
        ObjectNotFound,
        OutboxFull,
        ParameterError,
        PutOnlyError,
        ShipConflict,
        StateError,
        StorageError,
    )
    from ops.metrics_collect.extractor import (
        Extractor,
        Limits,
        Payload,
    )
    from ops.metrics_collect.ledger import (
        AnyLedger,
        Interval,
        Ledger,
        LedgerStorage,
    )
    from ops.metrics_collect.locks import (
        Holder,
        lock,
    )
    from ops.metrics_collect.outbox import (
        Outbox,
        Parcel,
    )
    from ops.metrics_collect.package import (
        CollectionStatus,
        Package,
    )
    from ops.metrics_collect.reports import (
        Chart,
        Column,
        Formula,
        Report,
        ReportActivity,
        ReportCCSP,
        ReportCCSPv2,
        ReportRenewalGuidance,
        Sheet,
    )
    from ops.metrics_collect.rollups import (
        DataframeActivity,
        DataframeDataCollectionStatus,
        DataframeHostMetric,
        DataframeJobevent,
        DataframeJobHostSummary,
        DataframeMainHost,
        Measure,
        Rollup,
    )
    from ops.metrics_collect.runs import (
        RunResult,
        gather,
        planned,
        run,
        ship,
    )
    from ops.metrics_collect.storage import (
        Storage,
        StorageCRC,
        StorageCRCMutual,
        StorageDirectory,
        StoragePostgres,
        StorageS3,
        StorageSegment,
    )
    from ops.metrics_collect.workspaces import (
        tempdir,
    )

__all__ = [
    "AnyLedger",
    "BrokenTarballError",
    "Chart",
    "CollectionStatus",
    "Collector",
    "CollectorFactory",
    "Column",
    "DataframeActivity",
    "DataframeDataCollectionStatus",
    "DataframeHostMetric",
    "DataframeJobHostSummary",
    "DataframeJobevent",
    "DataframeMainHost",
    "Deduplication",
    "Extractor",
    "Formula",
    "Holder",
    "Interval",
    "Ledger",
    "LedgerStorage",
    "Limits",
    "Measure",
    "MetricsError",
    "MetricsErrorCode",
    "ObjectExists",
    "ObjectNotFound",
    "Outbox",
    "OutboxFull",
    "Package",
    "ParameterError",
    "Parcel",
    "Payload",
    "PutOnlyError",
    "Report",
    "ReportActivity",
    "ReportCCSP",
    "ReportCCSPv2",
    "ReportRenewalGuidance",
    "Rollup",
    "RunResult",
    "Sheet",
    "ShipConflict",
    "StateError",
    "Storage",
    "StorageCRC",
    "StorageCRCMutual",
    "StorageDirectory",
    "StorageError",
    "StoragePostgres",
    "StorageS3",
    "StorageSegment",
    "collector",
    "gather",
    "host_identities",
    "lock",
    "planned",
    "query_collector",
    "run",
    "ship",
    "tempdir",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        ".collectors": ("Collector", "CollectorFactory", "collector", "query_collector"),
        ".dedup": ("Deduplication", "host_identities"),
        ".errors": (
            "BrokenTarballError",
            "MetricsError",
            "MetricsErrorCode",
            "ObjectExists",
            "ObjectNotFound",
            "OutboxFull",
            "ParameterError",
            "PutOnlyError",
            "ShipConflict",
            "StateError",
            "StorageError",
        ),
        ".extractor": ("Extractor", "Limits", "Payload"),
        ".ledger": ("AnyLedger", "Interval", "Ledger", "LedgerStorage"),
        ".locks": ("Holder", "lock"),
        ".outbox": ("Outbox", "Parcel"),
        ".package": ("CollectionStatus", "Package"),
        ".reports": (
            "Chart",
            "Column",
            "Formula",
            "Report",
            "ReportActivity",
            "ReportCCSP",
            "ReportCCSPv2",
            "ReportRenewalGuidance",
            "Sheet",
        ),
        ".rollups": (
            "DataframeActivity",
            "DataframeDataCollectionStatus",
            "DataframeHostMetric",
            "DataframeJobHostSummary",
            "DataframeJobevent",
            "DataframeMainHost",
            "Measure",
            "Rollup",
        ),
        ".runs": ("RunResult", "gather", "planned", "run", "ship"),
        ".storage": (
            "Storage",
            "StorageCRC",
            "StorageCRCMutual",
            "StorageDirectory",
            "StoragePostgres",
            "StorageS3",
            "StorageSegment",
        ),
        ".workspaces": ("tempdir",),
    },
)
