"""Collectors: `@collector` for functions of your own, `query_collector` for any SQL query."""

from ops.metrics_collect.collectors._base import Collector, CollectorFactory, collector
from ops.metrics_collect.collectors._query import query_collector

__all__ = ["Collector", "CollectorFactory", "collector", "query_collector"]
