"""Saving model objects as artifacts: which file, which artifact type, what is known about it.

XGBoost, LightGBM and ONNX models are written in the format of their library, which any later version reads and which
runs no code. Everything else is written by `ops.serialize.dump`: data as data, other objects as a pickle that is signed
(`trust`). PyTorch modules are written by ``torch.save``. What is saved here is read by `ops.registry.models.flavors`.

An input example gives the signature: names and types of its columns, and of what ``predict`` returns for it.
"""

from __future__ import annotations

import dataclasses
import importlib
from typing import TYPE_CHECKING, Any

from ops.foundation.logs import get_logger
from ops.registry.errors import InvalidValueError
from ops.registry.json_values import encode

if TYPE_CHECKING:
    import logging
    import pathlib
    from collections.abc import Callable, Mapping

    from ops.serialize.trust import Trust

__all__ = [
    "DESCRIPTION",
    "SavedObject",
    "require_policy",
    "save_model_folder",
    "save_object",
    "signature_of",
]

logger: logging.Logger = get_logger("ops.registry")

#: In a folder that `save_model_folder` made: what the file beside it is.
DESCRIPTION = "model.json"
_FORMAT = 1
_EXAMPLE_ROWS = 5
_DISTRIBUTIONS = {"sklearn": "scikit-learn"}


@dataclasses.dataclass(frozen=True, slots=True)
class SavedObject:
    """A model that was written to *path*, and what `register_model` wants to know about it."""

    path: pathlib.Path
    artifact_type: str
    framework: str
    dependencies: tuple[str, ...]
    signature: Mapping[str, Any] | None
    flavor_metadata: Mapping[str, Any]


def save_object(
    model: Any, folder: pathlib.Path, *, input_example: Any = None, trust: Trust = "user"
) -> SavedObject:
    """Write *model* into *folder* in the best format that there is for its kind.

    Args:
        model: A model of XGBoost, LightGBM, ONNX, PyTorch or scikit-learn, or any object that can be pickled.
        folder: An empty folder.
        input_example: Rows that the model predicts on: a table, an array, or a mapping of columns.
        trust: Who vouches for a pickle: "user" signs it with the key of this user, ``Signed(key)`` with that one.

    Raises:
        InvalidValueError: the model cannot be pickled, the example is none, or *trust* is no policy.
    """
    require_policy(trust)
    framework, kind = _kind_of(model)
    write = _WRITERS.get((framework, kind))
    artifact_type = framework
    if write is not None:
        path = write(model, folder)
        if kind == _XGBOOST_ESTIMATOR:
            artifact_type = f"xgboost.{type(model).__name__}"
    else:
        path = _dump(model, folder, trust)
    known: dict[str, Any] = {"class": f"{type(model).__module__}.{type(model).__qualname__}"}
    signature = None
    if input_example is not None:
        try:
            signature = signature_of(model, input_example)
            known["input_example"] = _example(input_example)
        except (TypeError, ValueError) as error:
            if isinstance(error, InvalidValueError):
                raise
            raise InvalidValueError(
                f"An input example is a table, an array or a mapping of columns, not {input_example!r:.80}."
            ) from error
    return SavedObject(path, artifact_type, framework, _dependencies(framework), signature, known)


def require_policy(trust: object) -> None:
    """Refuse what is no policy of trust, also where the format of a model needs none."""
    from ops.serialize.errors import SerializeError
    from ops.serialize.trust import check_trust

    try:
        check_trust(trust)
    except (SerializeError, TypeError) as error:
        raise InvalidValueError(
            f"trust={trust!r:.80} is unknown; use 'safe', 'user', 'all', Safe(...) or Signed(key)."
        ) from error


def save_model_folder(saved: SavedObject) -> None:
    """Write what is known of a saved model beside it, so that the folder is all that loading needs."""
    known = {
        "format": _FORMAT,
        "file": saved.path.name,
        "artifact_type": saved.artifact_type,
        "framework": saved.framework,
        "dependencies": saved.dependencies,
        "signature": saved.signature,
        "flavor_metadata": saved.flavor_metadata,
    }
    (saved.path.parent / DESCRIPTION).write_bytes(encode(known))


_XGBOOST_ESTIMATOR = "XGBModel"


def _kind_of(model: Any) -> tuple[str, str]:
    """Return the library of a model, and which of the kinds it is that have a format of their own."""
    kinds = [(kind.__module__.partition(".")[0], kind.__name__) for kind in type(model).__mro__]
    for library, name in kinds:
        if (library, name) in _WRITERS:
            # A class of the user's own has more than the library writes.
            is_whole = kinds[0][0] == library or library in {"torch", "onnx"}
            return library, name if is_whole else ""
    libraries = [library for library, _ in kinds]
    known = next((one for one in ("lightgbm", "sklearn") if one in libraries), "python")
    return known, ""


def _write_xgboost(model: Any, folder: pathlib.Path) -> pathlib.Path:
    model.save_model(folder / "model.ubj")
    return folder / "model.ubj"


def _write_lightgbm(model: Any, folder: pathlib.Path) -> pathlib.Path:
    model.save_model(folder / "model.txt")
    return folder / "model.txt"


def _write_onnx(model: Any, folder: pathlib.Path) -> pathlib.Path:
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder / "model.onnx"


def _write_torch(model: Any, folder: pathlib.Path) -> pathlib.Path:
    importlib.import_module("torch").save(model, folder / "model.pt")
    return folder / "model.pt"


#: By library and the name of a class: what writes it, and everything that is made of it.
_WRITERS: dict[tuple[str, str], Callable[[Any, pathlib.Path], pathlib.Path]] = {
    ("xgboost", "Booster"): _write_xgboost,
    ("xgboost", _XGBOOST_ESTIMATOR): _write_xgboost,
    ("lightgbm", "Booster"): _write_lightgbm,
    ("onnx", "ModelProto"): _write_onnx,
    ("torch", "Module"): _write_torch,
}


def _dump(model: Any, folder: pathlib.Path, trust: Trust) -> pathlib.Path:
    from ops.serialize import UnsupportedTypeError, dump

    path = folder / "model.ops"
    try:
        dump(model, path, trust="safe")  # data needs no signature
    except UnsupportedTypeError:
        try:
            dump(model, path, trust=trust)
        except UnsupportedTypeError as error:
            raise InvalidValueError(
                f"The model, a {type(model).__name__}, cannot be saved with trust={trust!r}: {error}",
                suggestions=(
                    "Save it yourself, and pass artifact_path, artifact_type and framework.",
                ),
            ) from error
    return path


def _dependencies(framework: str) -> tuple[str, ...]:
    import importlib.metadata

    name = _DISTRIBUTIONS.get(framework, framework)
    try:
        return (f"{name}=={importlib.metadata.version(name)}",)
    except importlib.metadata.PackageNotFoundError:
        return ()


def signature_of(model: Any, input_example: Any) -> dict[str, Any]:
    """Return names and types of the columns of an example and, if the model predicts on it, of the result."""
    found = {"inputs": _columns(input_example)}
    predict = getattr(model, "predict", None)
    if callable(predict):
        try:
            found["outputs"] = _columns(predict(input_example))
        except Exception:  # a library that predicts on its own kinds of data only
            logger.debug("%s does not predict on the input example", type(model), exc_info=True)
    return found


def _array(data: Any) -> Any:
    """Return an array, or a list of numbers or rows as one."""
    import pandas as pd

    if hasattr(data, "dtype") and hasattr(data, "shape"):
        return data
    array: Any = pd.Series(data).to_numpy()
    if array.dtype == object and not isinstance(data, str):
        array = pd.DataFrame(data).to_numpy()
    return array


def _columns(data: Any) -> list[dict[str, Any]]:
    if hasattr(data, "dtypes") and hasattr(data, "columns"):  # a table of pandas
        kinds = zip(data.columns, data.dtypes, strict=True)
        return [{"name": str(name), "type": str(kind)} for name, kind in kinds]

    if isinstance(data, dict):
        return [{"name": str(k), "type": str(_array(v).dtype)} for k, v in data.items()]
    array = _array(data)
    if array.dtype == object or array.ndim == 0:
        raise InvalidValueError(
            f"The input example must be a table, an array or a mapping of columns, not {data!r:.80}."
        )
    return [{"type": str(array.dtype), "shape": [-1, *array.shape[1:]]}]


def _example(data: Any) -> Any:
    """Return the first rows of an example as JSON has them."""
    if hasattr(data, "to_dict") and hasattr(data, "head"):
        rows: Any = data.head(_EXAMPLE_ROWS).to_dict("records")
    elif isinstance(data, dict):
        rows = {str(k): _array(v)[:_EXAMPLE_ROWS].tolist() for k, v in data.items()}
    else:
        rows = _array(data)[:_EXAMPLE_ROWS].tolist()
    try:
        encode(rows)
    except InvalidValueError:  # times and what else JSON has not
        return repr(rows)[:1000]
    return rows
