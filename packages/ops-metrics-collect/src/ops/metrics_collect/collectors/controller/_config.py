"""The configuration of the installation: who it is, its licence, where it runs."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import os
import platform
from typing import TYPE_CHECKING, Any

from ops.foundation.instants import iso
from ops.metrics_collect.collectors._base import collector
from ops.metrics_collect.snapshots import snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["config"]

_KEYS = [
    "INSTALL_UUID",
    "SYSTEM_UUID",
    "TOWER_URL_BASE",
    "LICENSE",
    "AUTHENTICATION_BACKENDS",
    "LOG_AGGREGATOR_LOGGERS",
    "LOG_AGGREGATOR_ENABLED",
    "LOG_AGGREGATOR_TYPE",
    "PENDO_TRACKING_STATE",
    "SUBSCRIPTION_USAGE_MODEL",
]
_LICENSE_FIELDS = {  # field of ours: name in the licence
    "license_type": "license_type",
    "sku": "sku",
    "valid_license": "valid_key",
    "total_licensed_instances": "instance_count",
    "support_level": "support_level",
    "usage": "usage",
    "product_name": "product_name",
    "pool_id": "pool_id",
    "subscription_name": "subscription_name",
    "subscription_id": "subscription_id",
    "account_number": "account_number",
}


@collector(version="1.0")
def config(*, db: Any, billing_provider_params: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Collect the identity, licence and platform of the installation."""
    from psycopg.rows import tuple_row

    with snapshot(db, statement_timeout_seconds=60), db.cursor(row_factory=tuple_row) as cursor:
        # A row with a user is that user's preference.
        cursor.execute(
            "select key, value from conf_setting where user_id is null and key = any(%s)", (_KEYS,)
        )
        settings = dict(cursor.fetchall())
        cursor.execute("select uuid, version from main_instance order by last_seen desc nulls last")
        instance = cursor.fetchone() or (None, None)
    licence = settings.get("LICENSE") or {}
    return {
        "install_uuid": settings.get("INSTALL_UUID"),
        "instance_uuid": settings.get("SYSTEM_UUID") or instance[0],
        "controller_url_base": settings.get("TOWER_URL_BASE"),
        "controller_version": instance[1],
        **{ours: licence.get(theirs) for ours, theirs in _LICENSE_FIELDS.items()},
        "license_date": licence.get("license_date"),
        "license_expiry": _expiry(licence.get("license_date")),
        "subscription_usage_model": settings.get("SUBSCRIPTION_USAGE_MODEL"),
        "platform": _platform(),
        "authentication_backends": settings.get("AUTHENTICATION_BACKENDS"),
        "external_logger_enabled": settings.get("LOG_AGGREGATOR_ENABLED"),
        "external_logger_type": settings.get("LOG_AGGREGATOR_TYPE"),
        "logging_aggregators": settings.get("LOG_AGGREGATOR_LOGGERS"),
        "pendo_tracking": settings.get("PENDO_TRACKING_STATE"),
        "metrics_version": importlib.metadata.version("ops-metrics-collect"),
        "billing_provider_params": dict(billing_provider_params or {}),
    }


def _expiry(seconds: Any) -> str | None:
    """Return the end of the licence as ISO 8601 text; controllers keep seconds since 1970."""
    try:
        return iso(dt.datetime.fromtimestamp(float(seconds), dt.UTC))
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _platform() -> dict[str, Any]:
    try:
        release = platform.freedesktop_os_release()
        dist = [release.get("NAME"), release.get("VERSION_ID"), release.get("VERSION_CODENAME")]
    except OSError:
        dist = []
    # Environment KUBERNETES_SERVICE_HOST: set in pods: the configuration of a controller is
    # reported as that of a cluster.
    in_cluster = "KUBERNETES_SERVICE_HOST" in os.environ
    return {
        "system": platform.system(),
        "release": platform.release(),
        "dist": dist,
        "type": "kubernetes" if in_cluster else "traditional",
    }
