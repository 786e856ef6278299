"""Loading models: a loader per artifact type, and for the others one that asks for trust.

A loader that was registered for the artifact type comes first. Then the formats of their libraries,
which hold numbers and no code: XGBoost (.json, .ubj), LightGBM (.txt), ONNX (.onnx), and PyTorch's
.pt and .pth, which are read with ``weights_only`` (torch 2.6 or later) unless *trust* is "all".

An artifact type of "joblib" is read as a joblib file, whatever its suffix is. Otherwise the
file decides. What `ops.serialize.dump` wrote is read by `ops.serialize.load`: data under any
trust, anything else where it was signed (``Signed(key)``, or ``"user"`` for what this user wrote) or with
``"all"``. A raw pickle and a file of joblib are programs that nobody has signed: they take ``"all"``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ops.foundation.errors import MissingExtraError
from ops.registry.errors import InvalidValueError

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
    """Return the object in *path*; see the module for what *trust* permits."""
    loader = _loaders.get(artifact_type)
    if loader is not None:
        return loader(path)
    native = _NATIVE.get((_family(artifact_type), path.suffix.lower()))
    if native is not None:
        return native(path, trust)
    if artifact_type.lower() == "joblib" and path.is_file():
        return _load_joblib(path, trust)
    if path.is_dir():
        raise InvalidValueError(
            f"{str(path)!r} is a folder, and no loader is registered for {artifact_type!r}.",
            suggestions=("register_flavor(artifact_type, loader) adds one.",),
        )
    with path.open("rb") as file:
        head = file.read(2)
    if not _is_pickle(head):
        from ops.serialize import load

        return load(path, trust=trust)
    if path.suffix == ".joblib":
        return _load_joblib(path, trust)
    return _load_pickle(path, trust)


def _family(artifact_type: str) -> str:
    name = artifact_type.lower()
    return {"pytorch": "torch", "lgbm": "lightgbm", "xgb": "xgboost"}.get(name, name)


def _load_xgboost(path: pathlib.Path, trust: Trust) -> Any:  # noqa: ARG001 - the same call as the others
    booster = _library("xgboost", "xgboost").Booster()
    booster.load_model(path)
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
            suggestions=('Pass trust="all" if you trust whoever wrote it.',),
        )
    try:
        import joblib
    except ModuleNotFoundError as error:
        raise MissingExtraError("joblib", "ops-registry[joblib]") from error
    return joblib.load(path)
