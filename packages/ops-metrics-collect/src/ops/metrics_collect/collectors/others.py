"""Collectors of services beside the controller (extra `http`)."""

from __future__ import annotations

import datetime as dt
import ssl
from typing import TYPE_CHECKING, Any

from ops.foundation.helpers import LazyImport
from ops.foundation.instants import iso, this_hour
from ops.metrics_collect.collectors._base import collector
from ops.metrics_collect.errors import ParameterError, StorageError
from ops.resilience import HTTPClient, HTTPError

if TYPE_CHECKING:
    import os

__all__ = ["total_workers_vcpu"]

httpx: Any = LazyImport("httpx", "ops-metrics-collect[http]")

_QUERY = "max_over_time(sum(machine_cpu_cores)[1h:5m] @ {end})"


@collector(version="1.0", every=dt.timedelta(hours=1))
def total_workers_vcpu(
    *,
    cluster_name: str,
    metering_enabled: bool,
    prometheus_url: str | None = None,
    ca_cert_path: str | os.PathLike[str] | None = None,
    token: str | None = None,
    since: dt.datetime | None = None,
    until: dt.datetime | None = None,
) -> dict[str, Any]:
    """Collect the most CPU cores that a cluster's workers had within an hour, from Prometheus.

    The hour is the one before *until* (default: the last full hour), and *since* its beginning, as a
    run gives both, hour by hour. Without metering Prometheus is not queried, and the total is None.

    Raises:
        ParameterError: *since* is not an hour before *until*, or the address is missing.
        StorageError: Prometheus does not answer, or with an error.
    """
    end = until or this_hour()
    if since is not None and end - since != dt.timedelta(hours=1):
        raise ParameterError(f"total_workers_vcpu: [{since}, {end}) is no hour.")
    found: dict[str, Any] = {
        "cluster_name": cluster_name,
        "metering_enabled": metering_enabled,
        "start_timestamp": iso(end - dt.timedelta(hours=1)),
        "end_timestamp": iso(end),
        "promql_query": _QUERY.format(end=int(end.timestamp())),
        "total_workers_vcpu": None,
    }
    if metering_enabled:
        if prometheus_url is None:
            raise ParameterError(
                "total_workers_vcpu needs prometheus_url= when metering is enabled."
            )
        reply = _ask(prometheus_url, found["promql_query"], ca_cert_path, token)
        found["total_workers_vcpu"] = _value(reply)
    return found


def _ask(
    url: str, query: str, ca_cert_path: str | os.PathLike[str] | None, token: str | None
) -> Any:
    context = ssl.create_default_context(cafile=ca_cert_path)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with httpx.Client(verify=context, timeout=30.0, headers=headers) as client:
        try:
            address = f"{url.rstrip('/')}/api/v1/query"
            return HTTPClient(client=client).get(address, params={"query": query})
        except HTTPError as error:
            text = str(error).replace(token, "***") if token else str(error)
            raise StorageError(f"Prometheus: {text}") from None


def _value(reply: Any) -> int | None:
    if not isinstance(reply, dict) or reply.get("status") != "success":
        raise StorageError(f"Prometheus answered {reply!r}.")
    result = reply["data"]["result"]
    return int(float(result[0]["value"][1])) if result else None
