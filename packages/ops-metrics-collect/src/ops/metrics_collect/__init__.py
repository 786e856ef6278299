"""Usage data collected, packed, shipped, rolled up and reported, every row exactly once.

Names load on first use: `import ops.metrics_collect` loads neither pyarrow nor pandas.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ops.metrics_collect.collectors import Collector as Collector
    from ops.metrics_collect.collectors import CollectorFactory as CollectorFactory
    from ops.metrics_collect.collectors import collector as collector
    from ops.metrics_collect.collectors import query_collector as query_collector
    from ops.metrics_collect.dedup import Deduplication as Deduplication
    from ops.metrics_collect.dedup import host_identities as host_identities
    from ops.metrics_collect.errors import AccessDenied as AccessDenied
    from ops.metrics_collect.errors import BrokenTarballError as BrokenTarballError
    from ops.metrics_collect.errors import MetricsError as MetricsError
    from ops.metrics_collect.errors import MetricsErrorCode as MetricsErrorCode
    from ops.metrics_collect.errors import ObjectExists as ObjectExists
    from ops.metrics_collect.errors import ObjectNotFound as ObjectNotFound
    from ops.metrics_collect.errors import OutboxFull as OutboxFull
    from ops.metrics_collect.errors import ParameterError as ParameterError
    from ops.metrics_collect.errors import PutOnlyError as PutOnlyError
    from ops.metrics_collect.errors import ShipConflict as ShipConflict
    from ops.metrics_collect.errors import StateError as StateError
    from ops.metrics_collect.errors import StorageError as StorageError
    from ops.metrics_collect.extractor import Extractor as Extractor
    from ops.metrics_collect.extractor import Limits as Limits
    from ops.metrics_collect.extractor import Payload as Payload
    from ops.metrics_collect.ledger import AnyLedger as AnyLedger
    from ops.metrics_collect.ledger import Interval as Interval
    from ops.metrics_collect.ledger import Ledger as Ledger
    from ops.metrics_collect.ledger_storage import LedgerStorage as LedgerStorage
    from ops.metrics_collect.locks import Holder as Holder
    from ops.metrics_collect.locks import lock as lock
    from ops.metrics_collect.outbox import Outbox as Outbox
    from ops.metrics_collect.outbox import Parcel as Parcel
    from ops.metrics_collect.package import CollectionStatus as CollectionStatus
    from ops.metrics_collect.package import Package as Package
    from ops.metrics_collect.pipeline import RunResult as RunResult
    from ops.metrics_collect.pipeline import gather as gather
    from ops.metrics_collect.pipeline import planned as planned
    from ops.metrics_collect.pipeline import run as run
    from ops.metrics_collect.pipeline import ship as ship
    from ops.metrics_collect.reports import Chart as Chart
    from ops.metrics_collect.reports import Column as Column
    from ops.metrics_collect.reports import Formula as Formula
    from ops.metrics_collect.reports import Report as Report
    from ops.metrics_collect.reports import ReportActivity as ReportActivity
    from ops.metrics_collect.reports import ReportCCSP as ReportCCSP
    from ops.metrics_collect.reports import ReportCCSPv2 as ReportCCSPv2
    from ops.metrics_collect.reports import ReportRenewalGuidance as ReportRenewalGuidance
    from ops.metrics_collect.reports import Sheet as Sheet
    from ops.metrics_collect.rollups import DataframeActivity as DataframeActivity
    from ops.metrics_collect.rollups import (
        DataframeDataCollectionStatus as DataframeDataCollectionStatus,
    )
    from ops.metrics_collect.rollups import DataframeHostMetric as DataframeHostMetric
    from ops.metrics_collect.rollups import DataframeJobevent as DataframeJobevent
    from ops.metrics_collect.rollups import DataframeJobHostSummary as DataframeJobHostSummary
    from ops.metrics_collect.rollups import DataframeMainHost as DataframeMainHost
    from ops.metrics_collect.rollups import Measure as Measure
    from ops.metrics_collect.rollups import Rollup as Rollup
    from ops.metrics_collect.storage import Storage as Storage
    from ops.metrics_collect.storage import StorageCRC as StorageCRC
    from ops.metrics_collect.storage import StorageCRCMutual as StorageCRCMutual
    from ops.metrics_collect.storage import StorageDirectory as StorageDirectory
    from ops.metrics_collect.storage import StoragePostgres as StoragePostgres
    from ops.metrics_collect.storage import StorageS3 as StorageS3
    from ops.metrics_collect.storage import StorageSegment as StorageSegment
    from ops.metrics_collect.workspaces import tempdir as tempdir
else:  # Written by `nox -s lint -- --fix` from the imports above.
    from ops.foundation.lazy import lazy_exports

    __all__, __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            ".collectors": "Collector CollectorFactory collector query_collector",
            ".dedup": "Deduplication host_identities",
            ".errors": (
                "AccessDenied BrokenTarballError MetricsError MetricsErrorCode ObjectExists "
                "ObjectNotFound OutboxFull ParameterError PutOnlyError ShipConflict StateError "
                "StorageError"
            ),
            ".extractor": "Extractor Limits Payload",
            ".ledger": "AnyLedger Interval Ledger",
            ".ledger_storage": "LedgerStorage",
            ".locks": "Holder lock",
            ".outbox": "Outbox Parcel",
            ".package": "CollectionStatus Package",
            ".pipeline": "RunResult gather planned run ship",
            ".reports": (
                "Chart Column Formula Report ReportActivity ReportCCSP ReportCCSPv2 "
                "ReportRenewalGuidance Sheet"
            ),
            ".rollups": (
                "DataframeActivity DataframeDataCollectionStatus DataframeHostMetric "
                "DataframeJobHostSummary DataframeJobevent DataframeMainHost Measure Rollup"
            ),
            ".storage": (
                "Storage StorageCRC StorageCRCMutual StorageDirectory StoragePostgres StorageS3 "
                "StorageSegment"
            ),
            ".workspaces": "tempdir",
        },
    )
