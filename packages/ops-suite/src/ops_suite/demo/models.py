"""The best model becomes a registered version in production; a weak one is stopped by a hook."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ops.observe import AuditLogger, EventEmitter, HooksManager, MetricsCollector
from ops.registry import HookType, MLOpsConfig, MLOpsContext, ModelStage, Operations

if TYPE_CHECKING:
    from pathlib import Path

    from ops.registry import ModelVersion
    from ops_suite.demo.trials import TrialResult

__all__ = ["MODEL", "Store", "open_store"]

MODEL = "breast-cancer"
_LEAST_ACCURACY = 0.9


@dataclass(frozen=True)
class Store:
    """The demo's registry, with emitter, hooks, metrics and audit log of its own."""

    context: MLOpsContext
    emitter: EventEmitter
    metrics: MetricsCollector
    audit: AuditLogger

    def register(self, result: TrialResult) -> ModelVersion:
        """Register the model of a trial; raises ValueError, from the hook, for a weak one."""
        return self.context.model_registry.register_model(
            name=MODEL,
            artifact_path=result.model,
            artifact_type="sklearn",
            framework="scikit-learn",
            hyperparameters=result.parameters,
            metrics={"accuracy": result.accuracy},
            experiment_run_id=result.run_id,
        )

    def promote(self, version: ModelVersion) -> ModelVersion:
        """Put a version into production; the one that was there is archived."""
        registry = self.context.model_registry
        return registry.promote_model(MODEL, version.version, ModelStage.PRODUCTION)


def open_store(folder: Path) -> Store:
    """Open the store in *folder* and hang the quality gate into it."""
    emitter, hooks, metrics = EventEmitter(), HooksManager(), MetricsCollector()
    path = folder / "store" / "audit.jsonl"  # where the registry's UI looks for it
    audit = AuditLogger(path)
    hooks.register(HookType.PRE_MODEL_REGISTER, _require_accuracy)
    operations = Operations(
        emitter=emitter, hooks=hooks, metrics=metrics, audit=audit, audit_path=str(path)
    )
    config = MLOpsConfig(storage_path=str(folder / "store"))
    return Store(MLOpsContext(config, operations=operations), emitter, metrics, audit)


def _require_accuracy(data: dict[str, Any]) -> dict[str, Any]:
    accuracy = data["metrics"]["accuracy"]
    if accuracy < _LEAST_ACCURACY:
        raise ValueError(f"accuracy {accuracy:.3f} is below {_LEAST_ACCURACY}")
    return data
