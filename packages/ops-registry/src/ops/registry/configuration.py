"""The configuration: one frozen dataclass, from arguments, the environment, ``ml_info.yaml`` and mappings.

Sources are merged as trees before anything is typed, later over earlier: defaults, global settings,
``ml_info.yaml``, the pipeline's ``mlops:``, the node's ``mlops:``; mappings are merged key by key, all
else is replaced. What is unknown or of the wrong type is a `ConfigurationError` with the path of the
option (``mlops.cache.max_size``). The environment counts more than files and less than arguments.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import pathlib
import re
import typing
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from ops.foundation.errors import MissingExtraError, name_hint
from ops.registry.disk.journal import DURABILITIES
from ops.registry.errors import ConfigurationError

if TYPE_CHECKING:
    from ops.foundation.files import StrPath

__all__ = [
    "CacheOptions",
    "ExperimentOptions",
    "HealthOptions",
    "MLOpsConfig",
    "PlaceOptions",
    "is_ml_pipeline",
    "load_yaml",
    "merge_options",
]

# Environment OPS_MLOPS_BACKEND, TAURO_MLOPS_BACKEND: the backend of `MLOpsConfig`, "local",
# "databricks" or one of a plug-in (default "local"). Of two names the first counts; the second is
# that of an older package.
# Environment OPS_MLOPS_PATH, TAURO_MLOPS_PATH: the folder of the local store (default:
# `./mlops_data`).
# Environment OPS_MLOPS_CATALOG, TAURO_MLOPS_CATALOG: the catalog; on local files a folder below
# the path (default: none).
# Environment OPS_MLOPS_SCHEMA, TAURO_MLOPS_SCHEMA: the schema in the catalog (default: none).
# Environment OPS_MLOPS_ARTIFACT_URI, TAURO_MLOPS_ARTIFACT_URI: where new artifacts go, as
# `s3://bucket/prefix` (default: into the store).
# Environment OPS_MLOPS_DURABILITY, TAURO_MLOPS_DURABILITY: "process", "interval" or "commit"
# (default "process").
# Environment OPS_MLOPS_WAREHOUSE_START_SECONDS, TAURO_MLOPS_WAREHOUSE_START_SECONDS: how many
# seconds a statement waits for a warehouse that is starting (default 900).
_VARIABLES = {
    "backend_type": "BACKEND",
    "storage_path": "PATH",
    "catalog": "CATALOG",
    "schema": "SCHEMA",
    "artifact_uri": "ARTIFACT_URI",
    "durability": "DURABILITY",
    "warehouse_start_seconds": "WAREHOUSE_START_SECONDS",
}
_SECONDS = "warehouse_start_seconds"
#: Names that ``ml_info.yaml`` uses for fields of `MLOpsConfig`.
_ALIASES = {"backend": "backend_type", "path": "storage_path"}


@dataclasses.dataclass(frozen=True, slots=True)
class ExperimentOptions:
    """The experiment that `MLOpsContext.experiment` gives, created with the first run.

    *name* is taken or created, then with *description* and *tags*.
    """

    name: str = "default"
    description: str = ""
    tags: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class PlaceOptions:
    """A part's own catalog, schema and address of artifacts; without them, those of the store apply.

    *catalog* and *schema* are names, *artifact_uri* is as ``s3://bucket/prefix``; None: that of the
    store.
    """

    catalog: str | None = None
    schema: str | None = None
    artifact_uri: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class CacheOptions:
    """What is kept in memory of runs that were read.

    *enabled* is whether, *max_size* how many, and *default_ttl* for how many seconds at most.
    """

    enabled: bool = True
    max_size: int = 1000
    default_ttl: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class HealthOptions:
    """What `MLOpsContext.health` watches besides the store, as shares of 1 that are too much.

    *enabled* is whether there are checks; above *memory_threshold* and *disk_threshold* they are
    unhealthy.
    """

    enabled: bool = True
    memory_threshold: float = 0.9
    disk_threshold: float = 0.9


@dataclasses.dataclass(frozen=True, slots=True)
class MLOpsConfig:
    """Where the store is and how careful it is.

    *backend_type* is "local", "databricks" or that of a plug-in; *storage_path* is the folder of
    the store. With *enabled* False no context is made. *durability* "process" survives the death of
    the process, "interval" is on the disk within a second, "commit" when a call returns. With
    *audit* every change is written to ``audit.jsonl`` in the store. New artifacts go below
    *artifact_uri* (``s3://bucket/prefix``) instead of into the store; the journals stay local. With
    *deduplicate_artifacts* the store keeps equal files of runs and models once, as hard links. With
    *auto_log* the context logs what scikit-learn, XGBoost and LightGBM fit. On local files
    *catalog* and *schema* are folders below the path. Processes that log to runs touch their
    journals every *heartbeat_seconds* (0: never), so that other machines can see them die. On
    Databricks *catalog_tags* are tags of Unity Catalog that repeat the tags of models and
    experiments, and *warehouse_start_seconds* is how long a statement waits for a warehouse that is
    starting.

    *experiment*, *cache* and *health* are options of the context; *tracking* and *model_registry*
    are catalogs, schemas and addresses of their own.

    Raises `ConfigurationError` for a value of another type, an unknown backend or durability, an
    empty path or one of an object store, and numbers below 0.

    >>> config = MLOpsConfig(storage_path="./store", durability="commit")
    >>> config.backend_type, config.heartbeat_seconds
    ('local', 30.0)
    """

    backend_type: str = "local"
    storage_path: str | os.PathLike[str] = "./mlops_data"  # a text once it is made
    catalog: str | None = None
    schema: str | None = None
    artifact_uri: str | None = None
    durability: str = "process"
    deduplicate_artifacts: bool = False
    audit: bool = False
    enabled: bool = True
    auto_log: bool = False
    heartbeat_seconds: float = 30.0
    catalog_tags: bool = True
    warehouse_start_seconds: float = 900.0
    experiment: ExperimentOptions = dataclasses.field(default_factory=ExperimentOptions)
    model_registry: PlaceOptions = dataclasses.field(default_factory=PlaceOptions)
    tracking: PlaceOptions = dataclasses.field(default_factory=PlaceOptions)
    cache: CacheOptions = dataclasses.field(default_factory=CacheOptions)
    health: HealthOptions = dataclasses.field(default_factory=HealthOptions)

    def __post_init__(self) -> None:
        from ops.registry.factories import require_backend

        own: Any = type(self)
        for name, hint in _hints(own).items():
            object.__setattr__(self, name, _value(hint, getattr(self, name), f"mlops.{name}"))
        path = os.fspath(self.storage_path)
        object.__setattr__(self, "storage_path", path)
        if not path:
            raise ConfigurationError("storage_path is empty; '.' is the working directory.")
        require_backend(self.backend_type)
        if self.durability not in DURABILITIES:
            raise ConfigurationError(
                f"durability={self.durability!r} is unknown; use one of {list(DURABILITIES)}."
            )
        if "://" in path and self.backend_type == "local":
            raise ConfigurationError(
                f"storage_path={self.storage_path!r} is no folder: the journals of the local backend "
                "are appended to and locked, which object stores cannot do.",
                suggestions=("Use a local folder, and artifact_uri for a bucket of artifacts.",),
            )
        for uri in (
            self.artifact_uri,
            self.tracking.artifact_uri,
            self.model_registry.artifact_uri,
        ):
            if uri is not None:
                self._check_artifact_uri(uri)
        if self.deduplicate_artifacts and self.backend_type != "local":
            raise ConfigurationError(
                "deduplicate_artifacts is for artifacts in a local folder: it makes hard links."
            )
        if not 0 <= self.heartbeat_seconds < math.inf:
            raise ConfigurationError(
                f"heartbeat_seconds must not be negative or endless, as {self.heartbeat_seconds} is; 0 is none."
            )
        if not 0 <= self.warehouse_start_seconds < math.inf:
            raise ConfigurationError(
                "warehouse_start_seconds must not be negative or endless, as "
                f"{self.warehouse_start_seconds} is; 0 is not to wait."
            )

    def _check_artifact_uri(self, uri: str) -> None:
        from ops.registry.remote.artifacts import check_address

        check_address(uri)
        if self.backend_type != "local":
            raise ConfigurationError(
                f"artifact_uri is for the local backend; {self.backend_type!r} has its own address."
            )

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read OPS_MLOPS_BACKEND, _PATH, _CATALOG, _SCHEMA, _ARTIFACT_URI, _DURABILITY, _WAREHOUSE_START_SECONDS.

        Each may be TAURO_MLOPS_* too.
        """
        return cls(**_from_env(environ))

    @classmethod
    def from_mapping(cls, tree: Mapping[str, Any]) -> Self:
        """Read a *tree* of options: the value of ``mlops:``, or a mapping that has that key.

        Raises `ConfigurationError` for an unknown option, and for a value of another type.
        """
        made: Self = _typed(
            cls, {_ALIASES.get(k, k): v for k, v in _subtree(tree).items()}, "mlops"
        )
        return made

    @classmethod
    def from_yaml(
        cls, path: StrPath = "ml_info.yaml", environ: Mapping[str, str] | None = None
    ) -> Self:
        """Read the ``mlops:`` tree of the YAML file *path*; variables of *environ* (default: the process's) count more.

        Raises `ConfigurationError` for a file that cannot be read and for an unknown option,
        `MissingExtraError` without the extra `yaml`.
        """
        return dataclasses.replace(cls.from_mapping(load_yaml(path)), **_from_env(environ))

    @classmethod
    def merged(
        cls,
        *,
        settings: Mapping[str, Any] | None = None,
        ml_info: Mapping[str, Any] | StrPath | None = None,
        pipeline: Mapping[str, Any] | None = None,
        node: Mapping[str, Any] | None = None,
    ) -> Self:
        """Merge defaults < global *settings* < *ml_info* (a tree or a file) < *pipeline* < *node*.

        None leaves one out. Raises `ConfigurationError` for an unknown option, and
        `MissingExtraError` for a file without the extra `yaml`.
        """
        if ml_info is not None and not isinstance(ml_info, Mapping):
            ml_info = load_yaml(ml_info)
        whole = (_subtree(tree) for tree in (settings, ml_info) if tree is not None)
        parts = (tree.get("mlops") or {} for tree in (pipeline, node) if tree is not None)
        return cls.from_mapping(merge_options(*whole, *parts))


def merge_options(*trees: Mapping[str, Any]) -> dict[str, Any]:
    """Return the trees merged, later over earlier: mappings key by key, all else replaced."""
    merged: dict[str, Any] = {}
    for tree in trees:
        for key, value in tree.items():
            old = merged.get(key)
            both = isinstance(old, Mapping) and isinstance(value, Mapping)
            merged[key] = merge_options(old, value) if both else value  # type: ignore[arg-type]  # both are mappings
    return merged


_ML_KEYS = frozenset({"mlops", "model", "hyperparameters", "hyperparams", "experiment"})
_ML_WORDS = frozenset({"ml", "train", "training", "fit", "tune", "tuning", "predict", "inference"})


def is_ml_pipeline(pipeline: Mapping[str, Any]) -> bool:
    """Say whether a pipeline has nodes that train or apply models.

    ``mlops: {enabled: ...}`` of the pipeline decides where it is given. Otherwise a node counts
    whose ``type`` or ``function`` has a word such as ml, train, fit or predict (``models.train_xgb``), or
    that has a key ``mlops``, ``model``, ``hyperparameters``, ``hyperparams`` or ``experiment``.
    """
    own = pipeline.get("mlops")
    if isinstance(own, Mapping) and "enabled" in own:
        return bool(own["enabled"])
    nodes = pipeline.get("nodes") or {}
    listed = nodes.values() if isinstance(nodes, Mapping) else nodes
    return any(isinstance(node, Mapping) and _is_ml_node(node) for node in listed)


def _is_ml_node(node: Mapping[str, Any]) -> bool:
    names = f"{node.get('type', '')} {node.get('function', '')}"
    return bool(_ML_KEYS & node.keys() or _ML_WORDS & set(re.split(r"[^a-z]+", names.lower())))


def _subtree(tree: Mapping[str, Any]) -> Mapping[str, Any]:
    found = tree.get("mlops", tree)
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise ConfigurationError(f"mlops must be a mapping, not {found!r:.80}.")
    return found


def _from_env(environ: Mapping[str, str] | None) -> dict[str, Any]:
    found = os.environ if environ is None else environ
    values = {
        field: found.get(f"OPS_MLOPS_{name}") or found.get(f"TAURO_MLOPS_{name}")
        for field, name in _VARIABLES.items()
    }
    given: dict[str, Any] = {field: value for field, value in values.items() if value}
    if seconds := given.get(_SECONDS):
        given[_SECONDS] = _number(seconds, f"OPS_MLOPS_{_VARIABLES[_SECONDS]}")
    return given


def _number(text: str, variable: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigurationError(f"{variable} must be a number, not {text!r:.80}.") from None


def load_yaml(path: StrPath) -> Mapping[str, Any]:
    """Return the mapping that a YAML file has at its top.

    Raises `ConfigurationError` when it cannot be read or has none, and `MissingExtraError` without the extra `yaml`.
    """
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise MissingExtraError("yaml", "ops-registry[yaml]") from error
    try:
        tree = yaml.safe_load(pathlib.Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{os.fspath(path)!r} cannot be read: {error}.") from error
    if not isinstance(tree, Mapping):
        raise ConfigurationError(f"{os.fspath(path)!r} has no mapping at its top.")
    return tree


def _typed(cls: Any, tree: Any, path: str) -> Any:
    """Return the dataclass *cls* from a tree, or say which option is wrong."""
    if not isinstance(tree, Mapping):
        raise ConfigurationError(f"{path} must be a mapping, not {tree!r:.80}.")
    hints = _hints(cls)
    values = {}
    for key, value in tree.items():
        if key not in hints:
            raise ConfigurationError(f"{path}.{key} is unknown; {name_hint(key, hints)}")
        values[key] = _value(hints[key], value, f"{path}.{key}")
    return cls(**values)


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _value(hint: Any, value: Any, path: str) -> Any:
    """Return *value* as an option of that type, or say that it is none."""
    if dataclasses.is_dataclass(hint):
        if type(value) is hint:
            return value
        return _typed(hint, {} if value is None else value, path)
    kinds = typing.get_args(hint) if typing.get_origin(hint) is not Mapping else (Mapping,)
    kinds = tuple(typing.get_origin(kind) or kind for kind in kinds or (hint,))
    if float in kinds and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    is_stray_bool = isinstance(value, bool) and bool not in kinds
    if isinstance(value, tuple(kinds)) and not is_stray_bool:
        return value
    names = " or ".join("nothing" if k is type(None) else k.__name__ for k in kinds)
    raise ConfigurationError(f"{path} must be {names}, not {value!r:.80}.")
