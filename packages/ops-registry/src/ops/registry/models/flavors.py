"""Loading models: a loader per artifact type, and for the others one that asks for trust.

A loader that was registered for the artifact type comes first. Then the formats of their libraries,
which hold numbers and no code: XGBoost (.json, .ubj), LightGBM (.txt), ONNX (.onnx), and PyTorch's
.pt and .pth, which are read with ``weights_only`` (torch 2.6 or later) unless *trust* is "all".

The artifact type decides before the suffix does: "joblib" and "pickle" are read as such, "xgboost", "lightgbm", "onnx"
and "torch" by their library, whatever the file is called, unless it is a pickle or a file of `ops.serialize`;
"xgboost.XGBClassifier" is read into an estimator of that class. A folder that `log_model` wrote names its own type. Otherwise
the file decides. What `ops.serialize.dump` wrote is read by `ops.serialize.load`: data under any
trust, anything else where it was signed (``Signed(key)``, or ``"user"`` for what this user wrote) or with
``"all"``. A raw pickle and a file of joblib are programs without a signature: they take ``"all"``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ops.foundation.errors import MissingExtraError
from ops.registry.disk.checked_paths import is_part
from ops.registry.errors import InvalidValueError
from ops.registry.json_values import decode
from ops.registry.models.objects import DESCRIPTION, require_policy

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable

    from ops.serialize.trust import Trust

__all__ = ["load_artifact", "register_flavor"]

_loaders: dict[str, Callable[[pathlib.Path], Any]] = {}


def register_flavor(artifact_type: str, loader: Callable[[pathlib.Path], Any]) -> None:
    """Load artifacts of *artifact_type* with *loader*, which answers for what it runs."""
    _loaders[artifact_type] = loader


def load_artifact(path: pathlib.Path, artifact_type: str, trust: Trust = "safe") -> Any:
    """Return the object in *path*; see the module for what *trust* permits; `InvalidValueError` for no policy."""
    require_policy(trust)
    loader = _loaders.get(artifact_type)
    if loader is not None:
        return loader(path)
    if path.is_dir() and (path / DESCRIPTION).is_file():
        return _load_folder(path, trust)
    family = _family(artifact_type)
    native = _NATIVE.get((family, path.suffix.lower()))
    if native is not None:
        return native(path, trust)
    if family.startswith("xgboost.") and path.is_file():
        return _load_estimator(path, artifact_type.partition(".")[2])
    if family == "joblib" and path.is_file():
        return _load_joblib(path, trust)
    if path.is_dir():
        raise _unknown(path, artifact_type)
    with path.open("rb") as file:
        head = file.read(8)
    if not _is_pickle(head[:2]):
        from ops.serialize import load
        from ops.serialize.layout import MAGIC

        if head == MAGIC:
            return load(path, trust=trust)
        by_library = _BY_FAMILY.get(family)
        if by_library is not None:
            return by_library(path, trust)
        if path.suffix == ".joblib":  # compressed
            return _load_joblib(path, trust)
        raise _unknown(path, artifact_type)
    if family == "pickle":
        return _load_pickle(path, trust)
    if path.suffix == ".joblib":
        return _load_joblib(path, trust)
    return _load_pickle(path, trust)


def _unknown(path: pathlib.Path, artifact_type: str) -> InvalidValueError:
    """Return what to raise for an artifact that nothing here can load."""
    kind = "a folder" if path.is_dir() else "no pickle and no file of ops.serialize"
    return InvalidValueError(
        f"{str(path)!r} is {kind}, and no loader is registered for {artifact_type!r:.80}.",
        suggestions=(
            "register_flavor(artifact_type, loader) adds one.",
            "download_artifact gives the file as it is.",
        ),
    )


def _family(artifact_type: str) -> str:
    name = artifact_type.lower()
    return {"pytorch": "torch", "lgbm": "lightgbm", "xgb": "xgboost", "pkl": "pickle"}.get(
        name, name
    )


def _load_folder(path: pathlib.Path, trust: Trust) -> Any:
    """Load the model in a folder that names its type."""
    try:
        known = decode((path / DESCRIPTION).read_bytes())
        file, artifact_type = str(known["file"]), str(known["artifact_type"])
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidValueError(f"{DESCRIPTION} in {str(path)!r} describes no model.") from error
    if not is_part(file) or file == DESCRIPTION:
        raise InvalidValueError(
            f"{DESCRIPTION} in {str(path)!r} names {file!r:.80}, which is no file."
        )
    return load_artifact(path / file, artifact_type, trust)


def _load_estimator(path: pathlib.Path, name: str) -> Any:
    """Load an estimator of XGBoost, which has the interface of scikit-learn."""
    if name not in _ESTIMATORS:
        raise InvalidValueError(
            f"{name!r:.80} is no estimator of XGBoost; there are {_ESTIMATORS}."
        )
    estimator = getattr(_library("xgboost", "xgboost"), name)()
    estimator.load_model(path)
    return estimator


def _load_xgboost(path: pathlib.Path, trust: Trust) -> Any:  # noqa: ARG001 - the same call as the others
    booster = _library("xgboost", "xgboost").Booster()
    # Without a suffix that it knows, XGBoost looks at the content of bytes alone.
    known = path.suffix.lower() in {".json", ".ubj"}
    booster.load_model(path if known else bytearray(path.read_bytes()))
    return booster


def _load_lightgbm(path: pathlib.Path, trust: Trust) -> Any:  # noqa: ARG001 - the same call as the others
    return _library("lightgbm", "lightgbm").Booster(model_file=str(path))


def _load_onnx(path: pathlib.Path, trust: Trust) -> Any:  # noqa: ARG001 - the same call as the others
    providers = ["CPUExecutionProvider"]
    return _library("onnxruntime", "onnx").InferenceSession(str(path), providers=providers)


def _load_torch(path: pathlib.Path, trust: Trust) -> Any:
    torch = _library("torch", "torch")
    if trust != "all" and _version(torch.__version__) < (2, 6):
        raise InvalidValueError(
            f"torch {torch.__version__} runs code from files also with weights_only (CVE-2025-32434).",
            suggestions=('Upgrade torch to 2.6, or pass trust="all" if you trust who wrote it.',),
        )
    return torch.load(path, map_location="cpu", weights_only=trust != "all")


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.partition("+")[0].split(".")[:2] if part.isdigit())


def _library(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtraError(module, f"ops-registry[{extra}]") from error


_NATIVE: dict[tuple[str, str], Callable[[pathlib.Path, Trust], Any]] = {
    ("xgboost", ".json"): _load_xgboost,
    ("xgboost", ".ubj"): _load_xgboost,
    ("lightgbm", ".txt"): _load_lightgbm,
    ("onnx", ".onnx"): _load_onnx,
    ("torch", ".pt"): _load_torch,
    ("torch", ".pth"): _load_torch,
}


#: For files whose suffix names no format.
_BY_FAMILY = {
    "xgboost": _load_xgboost,
    "lightgbm": _load_lightgbm,
    "onnx": _load_onnx,
    "torch": _load_torch,
}
_ESTIMATORS = ("XGBClassifier", "XGBRegressor", "XGBRanker", "XGBRFClassifier", "XGBRFRegressor")


def _is_pickle(head: bytes) -> bool:
    """Say whether a file starts like a pickle of protocol 2 or later."""
    return len(head) == 2 and head[0] == 0x80 and 2 <= head[1] <= 5


def _load_pickle(path: pathlib.Path, trust: Trust) -> Any:
    from ops.serialize.trust import Signed, unpickle

    if isinstance(trust, Signed):
        raise InvalidValueError(
            f"{str(path)!r} is a raw pickle without a signature.",
            suggestions=("Write the model with ops.serialize.dump(..., trust=Signed(key)).",),
        )
    return unpickle(path.read_bytes(), (), trust)


def _load_joblib(path: pathlib.Path, trust: Trust) -> Any:
    if trust != "all":
        raise InvalidValueError(
            f"{str(path)!r} is a joblib file, which can run code when it is read.",
            suggestions=('Pass trust="all" if you trust its author.',),
        )
    try:
        import joblib
    except ModuleNotFoundError as error:
        raise MissingExtraError("joblib", "ops-registry[joblib]") from error
    return joblib.load(path)
