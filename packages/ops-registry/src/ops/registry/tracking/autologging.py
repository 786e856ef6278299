"""Autologging: what scikit-learn, XGBoost and LightGBM fit becomes a run, without a line in the user's code.

No library is imported for it. The ``fit`` of every estimator class of scikit-learn that is loaded is
wrapped, and that of classes defined later as they appear; the estimators of XGBoost and LightGBM are
such classes. ``xgboost.train`` and ``lightgbm.train`` are wrapped where their packages are loaded.

Only the outermost call of a thread is logged: a pipeline is one run, not one per step. Inside a
`run_context` it goes to that run, else to a new one in the context's experiment. What cannot be
logged is a warning in the log; a fit never fails because of its logging.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from ops.foundation.logs import get_logger
from ops.registry.components import BaseMLOpsComponent
from ops.registry.disk.journal import encode
from ops.registry.errors import InvalidValueError
from ops.registry.tracking.runaccess import current_run_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ops.registry.context import MLOpsContext

__all__ = ["Autolog", "autolog"]

logger = get_logger("ops.registry")
_depth = threading.local()


def autolog(context: MLOpsContext | None = None) -> Autolog:
    """Log fits to *context* (the current one without it) until the result's `stop` is called."""
    if context is None:
        from ops.registry.context import get_mlops_context

        context = get_mlops_context()
    return Autolog(context).start()


class Autolog(BaseMLOpsComponent):
    """Wraps the training functions of the libraries that are loaded while it runs."""

    def __init__(self, context: MLOpsContext) -> None:
        super().__init__("autologging")
        self._context = context
        self._originals: list[tuple[Any, str, Any]] = []

    def _on_start(self) -> None:
        base = sys.modules.get("sklearn.base")
        if base is not None:
            root = base.BaseEstimator
            for kind in {root, *_subclasses(root)}:
                self._wrap_estimator(kind)
            self._watch_for_classes(root)
        for name in ("xgboost", "lightgbm"):
            module = sys.modules.get(name)
            if module is not None:
                self._replace(module, "train", self._wrapped_train(module.train, name))

    def _on_stop(self) -> None:
        while self._originals:
            owner, name, original = self._originals.pop()
            if original is None:
                delattr(owner, name)
            else:
                setattr(owner, name, original)

    def _replace(self, owner: Any, name: str, new: Any) -> None:
        self._originals.append((owner, name, vars(owner).get(name)))
        setattr(owner, name, new)

    def _wrap_estimator(self, kind: Any) -> None:
        fit = vars(kind).get("fit")
        if callable(fit):
            self._replace(kind, "fit", self._wrapped_fit(fit))

    def _watch_for_classes(self, root: Any) -> None:
        earlier = root.__init_subclass__

        def wrap_new(cls: Any, /, **options: Any) -> None:
            earlier.__func__(cls, **options)
            self._wrap_estimator(cls)

        self._replace(root, "__init_subclass__", classmethod(wrap_new))

    def _wrapped_fit(self, fit: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(fit)
        def logged(estimator: Any, *args: Any, **kwargs: Any) -> Any:
            with _nesting() as is_outermost:
                began = time.monotonic()
                result = fit(estimator, *args, **kwargs)
                if is_outermost:
                    seconds = time.monotonic() - began
                    kind = type(estimator)
                    self._log(kind.__name__, kind.__module__, lambda: _told(estimator), seconds)
                return result

        return logged

    def _wrapped_train(self, train: Callable[..., Any], library: str) -> Callable[..., Any]:
        @functools.wraps(train)
        def logged(params: Any, *args: Any, **kwargs: Any) -> Any:
            with _nesting() as is_outermost:
                history: dict[str, Any] = {}
                if is_outermost and library == "xgboost":
                    history = kwargs.setdefault("evals_result", {})
                began = time.monotonic()
                booster = train(params, *args, **kwargs)
                if is_outermost:
                    seconds = time.monotonic() - began
                    self._log(f"{library}.train", library, lambda: (params, history), seconds)
                return booster

        return logged

    def _log(
        self,
        name: str,
        module: str,
        tell: Callable[[], tuple[Mapping[str, Any], Mapping[str, Any]]],
        seconds: float,
    ) -> None:
        try:
            with self.operation():
                parameters, history = tell()
                known = {str(k): _plain(v) for k, v in parameters.items() if v is not None}
                tags = {"autolog": "true", "library": module.partition(".")[0]}
                self._write(name, known, tags, [("fit_seconds", seconds, 0), *_points(history)])
        except Exception:
            logger.warning("a fit of %s could not be logged", name, exc_info=True)

    def _write(
        self,
        name: str,
        parameters: dict[str, Any],
        tags: dict[str, str],
        points: list[tuple[str, float, int]],
    ) -> None:
        tracker = self._context.experiment_tracker
        run_id = current_run_id()
        if run_id is not None:
            tracker.log_batch(run_id, points, parameters, tags)
            return
        experiment = self._context.experiment.experiment_id
        with tracker.run_context(experiment, name, tags=tags, parameters=parameters) as run:
            tracker.log_batch(run.run_id, points)


@contextlib.contextmanager
def _nesting() -> Iterator[bool]:
    """Tell whether this call is not inside another one of this thread."""
    depth = getattr(_depth, "value", 0)
    _depth.value = depth + 1
    try:
        yield depth == 0
    finally:
        _depth.value = depth


def _told(estimator: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the parameters of a fitted estimator and what it measured on its way."""
    parameters = estimator.get_params(deep=False)
    history: dict[str, Any] = {}
    best = getattr(estimator, "best_score_", None)
    if isinstance(best, float):
        history["best"] = {"score": [best]}
    measured = vars(estimator).get("evals_result_") or vars(estimator).get("_evals_result")
    history |= measured or {}
    return parameters, history


def _points(history: Mapping[str, Any]) -> Iterator[tuple[str, float, int]]:
    """Yield the points of ``{data set: {metric: [values]}}``."""
    for data, metrics in history.items():
        for metric, values in metrics.items():
            for step, value in enumerate(values):
                yield f"{data}/{metric}", float(value), step


def _plain(value: Any) -> Any:
    try:
        encode(value)
    except InvalidValueError:
        return repr(value)[:500]
    return value


def _subclasses(kind: Any) -> Iterator[Any]:
    for child in kind.__subclasses__():
        yield child
        yield from _subclasses(child)
