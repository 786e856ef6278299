"""Which versions were tested together, and which are here."""

from __future__ import annotations

import importlib.metadata
import re
from importlib.resources import files

__all__ = ["LIBRARIES", "installed_versions", "pinned_versions"]

#: Every library of the suite and the module it is imported as.
LIBRARIES = {
    "ops-foundation": "ops.foundation",
    "ops-resilience": "ops.resilience",
    "ops-observe": "ops.observe",
    "ops-serialize": "ops.serialize",
    "ops-shm": "ops.shm",
    "ops-cache": "ops.cache",
    "ops-datalog": "ops.datalog",
    "ops-metrics-collect": "ops.metrics_collect",
    "ops-registry": "ops.registry",
}


def pinned_versions() -> dict[str, str]:
    """Return the exact version of each library that this version of ops-suite was tested with."""
    text = files("ops_suite").joinpath("constraints.txt").read_text(encoding="utf-8")
    pins = re.findall(r"^(ops-[a-z-]+)==(\S+)$", text, flags=re.MULTILINE)
    return dict(pins)


def installed_versions() -> dict[str, str | None]:
    """Return the version of each library that is installed here, None for one that is not."""
    found: dict[str, str | None] = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found
