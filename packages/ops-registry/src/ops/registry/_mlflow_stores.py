"""What MLflow's entry points name: functions that build the stores behind ``ops-registry://``.

MLflow loads the entry points of every installed distribution in every program, whichever store the
program uses, and warns of each that cannot be imported. So this module imports nothing until MLflow
asks for a store of ours; only then does it matter whether MLflow is new enough.
"""

# No imports, not even of typing: MLflow pays for them in programs that never use this store.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from ops.registry.mlflow.modelstore import OpsModelStore
    from ops.registry.mlflow.trackingstore import OpsTrackingStore

__all__ = ["model_registry_store", "tracking_store"]


def tracking_store(store_uri: str, artifact_uri: str | None = None) -> "OpsTrackingStore":
    """Return the tracking store of *store_uri*; new experiments keep artifacts at *artifact_uri*.

    Raises MissingExtraError when MLflow is older than the extra ``ops-registry[mlflow]`` asks for.
    """
    try:
        from ops.registry.mlflow.trackingstore import OpsTrackingStore
    except ImportError as error:
        raise _too_old() from error
    return OpsTrackingStore(store_uri, artifact_uri)


def model_registry_store(store_uri: str, tracking_uri: str | None = None) -> "OpsModelStore":
    """Return the model registry store of *store_uri*, whose runs are tracked at *tracking_uri*.

    Raises MissingExtraError when MLflow is older than the extra ``ops-registry[mlflow]`` asks for.
    """
    try:
        from ops.registry.mlflow.modelstore import OpsModelStore
    except ImportError as error:
        raise _too_old() from error
    return OpsModelStore(store_uri, tracking_uri)


def _too_old() -> Exception:
    from ops.foundation.errors import MissingExtraError

    return MissingExtraError("mlflow>=3.17.2", "ops-registry[mlflow]")
