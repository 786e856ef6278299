"""The context: one place on disk, its tracker and its registry, and what they are wired to.

Configuration is resolved once, when the context is made: arguments before the environment
(``OPS_MLOPS_*``, then the older ``TAURO_MLOPS_*``) before defaults, and a relative path against the
working directory of that moment. Nothing is created on disk before the first write.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import threading
from typing import TYPE_CHECKING, Self

from ops.registry.errors import BackendUnavailableError, ConfigurationError
from ops.registry.journal import DURABILITIES
from ops.registry.model_registry import ModelRegistry
from ops.registry.operations import Operations
from ops.registry.storage import LocalStorageBackend
from ops.registry.tracker import ExperimentTracker

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ops.foundation.files import StrPath

__all__ = [
    "MLOpsConfig",
    "MLOpsContext",
    "get_mlops_context",
    "init_mlops",
    "is_mlops_initialized",
    "reset_mlops_context",
]


@dataclasses.dataclass(frozen=True, slots=True)
class MLOpsConfig:
    """Where the store is and how careful it is.

    *durability* "process" survives the death of the process, "interval" is on the disk within a
    second, "commit" when a call returns.
    With *audit* every change is written to ``audit.jsonl`` in the store.
    """

    backend_type: str = "local"
    storage_path: str = "./mlops_data"
    durability: str = "process"
    audit: bool = False

    def __post_init__(self) -> None:
        if self.backend_type == "databricks":
            raise BackendUnavailableError(
                "The Databricks backend is not available in this version of ops-registry, "
                "and nothing else is used in its place.",
                suggestions=('Use backend_type="local".',),
            )
        if self.backend_type != "local":
            raise ConfigurationError(f"backend_type={self.backend_type!r} is unknown; use 'local'.")
        if self.durability not in DURABILITIES:
            raise ConfigurationError(
                f"durability={self.durability!r} is unknown; use one of {list(DURABILITIES)}."
            )

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read OPS_MLOPS_BACKEND, _PATH and _DURABILITY, each also as TAURO_MLOPS_*."""
        found = os.environ if environ is None else environ
        names = {"backend_type": "BACKEND", "storage_path": "PATH", "durability": "DURABILITY"}
        values = {
            field: found.get(f"OPS_MLOPS_{name}") or found.get(f"TAURO_MLOPS_{name}")
            for field, name in names.items()
        }
        return cls(**{field: value for field, value in values.items() if value})  # type: ignore[arg-type]  # no bool among them


class MLOpsContext:
    """A store: `experiment_tracker`, `model_registry`, `storage` below one absolute `path`."""

    def __init__(
        self, config: MLOpsConfig | None = None, *, operations: Operations | None = None
    ) -> None:
        self.config = MLOpsConfig() if config is None else config
        self.path = pathlib.Path(self.config.storage_path).absolute()
        self.operations = operations or Operations(audit=self._audit())
        durability = self.config.durability
        self.experiment_tracker = ExperimentTracker(
            self.path / "experiment_tracking", operations=self.operations, durability=durability
        )
        self.model_registry = ModelRegistry(
            self.path / "model_registry", operations=self.operations, durability=durability
        )
        self.storage = LocalStorageBackend(
            self.path / "storage", operations=self.operations, durability=durability
        )

    @classmethod
    def from_env(cls) -> Self:
        """Make a context from the environment."""
        return cls(MLOpsConfig.from_env())

    @classmethod
    def from_config(cls, config: MLOpsConfig) -> Self:
        """Make a context from a configuration."""
        return cls(config)

    def compact(self) -> None:
        """Write the Parquet views of runs, experiments and models."""
        self.experiment_tracker.compact()
        self.model_registry.compact()

    def cleanup(self) -> None:
        """Close the files that are open; the context can be used again afterwards."""
        self.experiment_tracker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.cleanup()

    def _audit(self) -> AuditLogger | None:
        if not self.config.audit:
            return None
        from ops.observe.audit import AuditLogger

        return AuditLogger(self.path / "audit.jsonl")


if TYPE_CHECKING:
    from ops.observe.audit import AuditLogger

_lock = threading.Lock()
_current: MLOpsContext | None = None


def init_mlops(
    backend_type: str | None = None,
    storage_path: StrPath | None = None,
    *,
    config: MLOpsConfig | None = None,
    operations: Operations | None = None,
) -> MLOpsContext:
    """Make the context that `get_mlops_context` returns from now on, and return it."""
    if backend_type == "databricks":
        MLOpsConfig(backend_type)  # says why not, whatever the environment has
    base = MLOpsConfig.from_env() if config is None else config
    given = {
        "backend_type": backend_type,
        "storage_path": None if storage_path is None else os.fspath(storage_path),
    }
    merged = dataclasses.replace(base, **{k: v for k, v in given.items() if v is not None})  # type: ignore[arg-type]  # no bool among them
    return _install(MLOpsContext(merged, operations=operations))


def get_mlops_context() -> MLOpsContext:
    """Return the current context; without one, it is made from the environment and defaults."""
    return _current or _install(MLOpsContext.from_env())


def is_mlops_initialized() -> bool:
    """Whether there is a current context."""
    return _current is not None


def reset_mlops_context() -> None:
    """Close and forget the current context; what is on disk stays."""
    _install(None)


def _install(context: MLOpsContext | None) -> MLOpsContext:
    global _current
    with _lock:
        old, _current = _current, context
    if old is not None and old is not context:
        old.cleanup()
    return context  # type: ignore[return-value]  # None only for reset, which ignores it
