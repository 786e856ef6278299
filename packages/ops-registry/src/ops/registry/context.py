"""The context: one store, its tracker, registry and files, and what they are wired to.

Configuration is resolved once, when the context is made, and a relative path against the working
directory at that time. Nothing is created on disk before the first write. `activate` makes a
context only for a pipeline that has to do with models; for any other it costs a look at its nodes.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import threading
from typing import TYPE_CHECKING, Any, Self, cast

from ops.registry.configuration import MLOpsConfig, is_ml_pipeline
from ops.registry.errors import ConfigurationError
from ops.registry.factories import (
    ExperimentTrackerFactory,
    ModelRegistryFactory,
    StorageBackendFactory,
    paths_of,
)
from ops.registry.operations import Operations

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Mapping

    from ops.foundation.files import StrPath
    from ops.observe.health import HealthMonitor
    from ops.registry.disk.layout import PathManager
    from ops.registry.disk.storage import LocalStorageBackend
    from ops.registry.models.registry import ModelRegistry
    from ops.registry.records import Experiment
    from ops.registry.tracking.tracker import ExperimentTracker

__all__ = [
    "MLOpsContext",
    "activate",
    "get_mlops_context",
    "init_mlops",
    "is_mlops_initialized",
    "reset_mlops_context",
]


class MLOpsContext:
    """A store: `experiment_tracker`, `model_registry`, `storage` below one absolute `path`.

    *config* None takes the defaults; *operations* holds emitter, hooks, metrics and audit (None:
    those that the process shares). Raises `ConfigurationError` when `config.enabled` is False, and
    `BackendUnavailableError` where the environment lacks what a backend needs.

    >>> import tempfile
    >>> context = MLOpsContext(MLOpsConfig(storage_path=tempfile.mkdtemp()))
    >>> experiment = context.experiment_tracker.create_experiment("churn")
    >>> with context.experiment_tracker.run_context(experiment.experiment_id) as run:
    ...     context.experiment_tracker.log_metric(run.run_id, "auc", 0.9)
    >>> [run.status.value for run in context.experiment_tracker.list_runs(experiment.experiment_id)]
    ['COMPLETED']
    """

    def __init__(
        self, config: MLOpsConfig | None = None, *, operations: Operations | None = None
    ) -> None:
        self.config: MLOpsConfig = MLOpsConfig() if config is None else config
        if not self.config.enabled:
            raise ConfigurationError(
                "MLOps is switched off by mlops.enabled.",
                suggestions=("activate(pipeline, config) asks first.",),
            )
        # Absolute from here on: the parts resolve the same path, whatever the working directory.
        absolute = os.path.abspath(self.config.storage_path)  # noqa: PTH100 - keeps ".." of links
        self.config = dataclasses.replace(self.config, storage_path=absolute)
        self.paths: PathManager = paths_of(self.config)
        self.path: pathlib.Path = self.paths.root
        self.operations: Operations = operations or self._wiring()
        # The local backend's types, so that users see all of its methods; others guarantee protocols.
        parts: tuple[Any, ...] = (
            ExperimentTrackerFactory.create(self.config, self.operations),
            ModelRegistryFactory.create(self.config, self.operations),
            StorageBackendFactory.create(self.config, self.operations),
        )
        self.experiment_tracker: ExperimentTracker = cast("ExperimentTracker", parts[0])
        self.model_registry: ModelRegistry = cast("ModelRegistry", parts[1])
        self.storage: LocalStorageBackend = cast("LocalStorageBackend", parts[2])
        self._cleanups: list[Callable[[], object]] = []

    @classmethod
    def from_env(cls) -> Self:
        """Make a context from the environment."""
        return cls(MLOpsConfig.from_env())

    @classmethod
    def from_config(cls, config: MLOpsConfig) -> Self:
        """Make a context from a configuration."""
        return cls(config)

    @property
    def experiment(self) -> Experiment:
        """The experiment that the configuration names, created now if need be."""
        wanted = self.config.experiment
        return self.experiment_tracker.get_or_create_experiment(
            wanted.name, wanted.description, wanted.tags
        )

    @functools.cached_property
    def health(self) -> HealthMonitor:
        """Checks of the store and, unless switched off, of memory and disk; made when first used."""
        from ops.observe.checks import ComponentHealthCheck, DiskHealthCheck, MemoryHealthCheck
        from ops.observe.health import HealthMonitor

        monitor = HealthMonitor()
        for name in ("experiment_tracker", "model_registry", "storage"):
            monitor.register(ComponentHealthCheck(name, getattr(self, name)))
        options = self.config.health
        if options.enabled:
            there = next(p for p in (self.path, *self.path.parents) if p.is_dir())
            memory, disk = options.memory_threshold, options.disk_threshold
            monitor.register(MemoryHealthCheck("memory", memory, max(memory, 0.95)))
            monitor.register(DiskHealthCheck("disk", there, disk, max(disk, 0.95)))
        return monitor

    def paths_of_runs(self, experiment_id: str) -> pathlib.Path:
        """Return the folder of an experiment's runs."""
        return paths_of(self.config, self.config.tracking).runs(experiment_id)

    def compact(self) -> None:
        """Write the Parquet views of runs, experiments and models."""
        self.experiment_tracker.compact()
        self.model_registry.compact()

    def cleanup(self) -> None:
        """Close the files that are open; the context can be used again afterwards."""
        for call in self._cleanups:
            call()
        self._cleanups.clear()
        for part in (self.experiment_tracker, self.model_registry):
            if hasattr(part, "close"):  # the protocols ask for none
                part.close()

    def on_cleanup(self, call: Callable[[], object]) -> None:
        """Call *call* when the context is cleaned up."""
        self._cleanups.append(call)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.cleanup()

    def __reduce__(self) -> tuple[Any, ...]:
        """Be sent to another process as the configuration, from which that makes its own context."""
        return type(self), (self.config,)

    def _wiring(self) -> Operations:
        operations = Operations()
        if self.config.audit:
            operations.audit_into(str(self.paths.audit_log))
        return operations


_lock, _making = threading.Lock(), threading.Lock()
_current: MLOpsContext | None = None


def init_mlops(
    backend_type: str | None = None,
    storage_path: StrPath | None = None,
    *,
    catalog: str | None = None,
    schema: str | None = None,
    config: MLOpsConfig | None = None,
    operations: Operations | None = None,
) -> MLOpsContext:
    """Make the context that `get_mlops_context` returns from now on, and return it.

    *config* None is read from the variables OPS_MLOPS_*. *backend_type* ("local", "databricks" or
    that of a plug-in), *storage_path*, *catalog* and *schema* replace its values where they are
    given. *operations* is that of `MLOpsContext`. Raises `ConfigurationError` for a value that is
    not acceptable.

    >>> import tempfile
    >>> context = init_mlops("local", tempfile.mkdtemp())
    >>> context.experiment_tracker.list_experiments()
    []
    """
    if backend_type is not None:
        MLOpsConfig(backend_type)  # refuses a wrong one, whatever the environment has
    base = MLOpsConfig.from_env() if config is None else config
    given = {
        "backend_type": backend_type,
        "storage_path": None if storage_path is None else os.fspath(storage_path),
        "catalog": catalog,
        "schema": schema,
    }
    merged = dataclasses.replace(base, **{k: v for k, v in given.items() if v is not None})  # type: ignore[arg-type]  # texts only
    return _install(MLOpsContext(merged, operations=operations))


def activate(pipeline: Mapping[str, Any], config: MLOpsConfig | None = None) -> MLOpsContext | None:
    """Return the context for *pipeline*, or None when it has no models or MLOps is switched off."""
    if not is_ml_pipeline(pipeline):
        return None
    if config is None and _current is not None:
        return _current
    base = MLOpsConfig.from_env() if config is None else config
    return init_mlops(config=base) if base.enabled else None


def get_mlops_context() -> MLOpsContext:
    """Return the current context; without one, it is made from the environment and defaults."""
    if _current is None:
        with _making:  # of several threads that ask at once one makes it
            if _current is None:
                return _install(MLOpsContext.from_env())
    return _current


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
    if context is not None and context.config.auto_log:
        from ops.registry.autologging import autolog

        context.on_cleanup(autolog(context).stop)
    return context  # type: ignore[return-value]  # None only for reset, which ignores it
