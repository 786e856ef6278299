"""Autologging: what scikit-learn, XGBoost and LightGBM fit becomes a run, without a line in the user's code.

No library is imported for it. ``fit``, ``fit_transform`` and ``fit_predict`` of every estimator class of scikit-learn
that is loaded are wrapped, and those of classes defined later as they appear; the estimators of XGBoost and LightGBM
are such classes. ``xgboost.train`` and ``lightgbm.train`` are wrapped too. What is imported only after autologging
began is wrapped as soon as its module has been loaded.

Only the outermost call is logged: a pipeline is one run, not one per step, and a search one, whatever joblib runs its
fits on (threads of joblib belong to the search that waits for them; its processes have no autologging, also for
classes that are sent to them with their methods). *children*
adds a run for each candidate of a search, from its ``cv_results_``. Inside a `run_context` a fit goes to that run,
else to a new one in the context's experiment; one that raises is a FAILED run. What cannot be logged is a warning in
the log; a fit never fails because of its logging.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from ops.foundation.logs import get_logger
from ops.registry.components import BaseMLOpsComponent
from ops.registry.errors import InvalidValueError, described
from ops.registry.json_values import encode
from ops.registry.records import RunStatus
from ops.registry.tracking.run_access import current_run_id

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ops.registry.context import MLOpsContext

__all__ = ["Autolog", "autolog"]

logger: logging.Logger = get_logger("ops.registry")
_depth = threading.local()


#: Modules whose classes or functions are wrapped.
_WATCHED = ("sklearn.base", "xgboost", "lightgbm")
#: Methods of estimators that are one training each.
_FITS = ("fit", "fit_transform", "fit_predict")
#: How many outermost calls are at work in this process, whose threads of joblib are theirs.
_outermost: set[object] = set()


def autolog(context: MLOpsContext | None = None, *, children: bool = False) -> Autolog:
    """Log fits to *context* (the current one without it) until the result's `stop` is called.

    With *children* each candidate of a search is a run of its own below that of the search.
    """
    if context is None:
        from ops.registry.context import get_mlops_context

        context = get_mlops_context()
    return Autolog(context, children=children).start()


class Autolog(BaseMLOpsComponent):
    """Wraps the training functions of the libraries that are loaded, or will be while it runs."""

    def __init__(self, context: MLOpsContext, *, children: bool = False) -> None:
        super().__init__("autologging")
        self._context = context
        self._children = children
        self._finder = _Finder(self._wrap_module)
        #: What was replaced: owner, name, the original (None: the owner had none) and what is there instead.
        self._replaced: list[tuple[Any, str, Any, Any]] = []
        #: Whether fits are logged.
        self.is_active: bool = False

    def __reduce__(self) -> tuple[Any, tuple[()]]:
        # A class of `__main__` is sent to worker processes with its methods, and these with what they log to.
        return _Elsewhere, ()

    def _on_start(self) -> None:
        self.is_active = True
        for name in _WATCHED:
            module = sys.modules.get(name)
            if module is not None:
                self._wrap_module(module)
        sys.meta_path.insert(0, self._finder)

    def _wrap_module(self, module: Any) -> None:
        name = module.__name__
        if name != "sklearn.base":
            self._replace(module, "train", self._wrapped_train(module.train, name))
            return
        root = module.BaseEstimator
        for kind in {root, *_subclasses(root)}:
            self._wrap_estimator(kind)
        self._watch_for_classes(root)

    def _on_stop(self) -> None:
        self.is_active = False
        with contextlib.suppress(ValueError):
            sys.meta_path.remove(self._finder)
        while self._replaced:
            owner, name, original, new = self._replaced.pop()
            if vars(owner).get(name) is not new:
                continue  # another one has wrapped it since, which goes on
            original = _first_active(original)
            if original is None:
                delattr(owner, name)
            else:
                setattr(owner, name, original)

    def _replace(self, owner: Any, name: str, new: Any) -> None:
        self._replaced.append((owner, name, vars(owner).get(name), new))
        setattr(owner, name, new)

    def _wrap_estimator(self, kind: Any) -> None:
        for name in _FITS:
            fit = vars(kind).get(name)
            if callable(fit):
                self._replace(kind, name, self._wrapped_fit(fit))
            elif hasattr(fit, "fn"):  # scikit-learn's `available_if`
                found = copy.copy(fit)
                found.fn = self._wrapped_fit(fit.fn)
                _mark(found, self, fit)
                self._replace(kind, name, found)

    def _watch_for_classes(self, root: Any) -> None:
        earlier = root.__init_subclass__

        def wrap_new(cls: Any, /, **options: Any) -> None:
            earlier.__func__(cls, **options)
            self._wrap_estimator(cls)

        self._replace(root, "__init_subclass__", classmethod(wrap_new))

    def _wrapped_fit(self, fit: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(fit)
        def logged(estimator: Any, *args: Any, **kwargs: Any) -> Any:
            if not self.is_active:
                return fit(estimator, *args, **kwargs)
            kind = type(estimator)
            with _nesting() as is_outermost:
                began = time.monotonic()
                try:
                    result = fit(estimator, *args, **kwargs)
                except BaseException as error:
                    if is_outermost:
                        seconds = time.monotonic() - began
                        recorded = functools.partial(_parameters, estimator)
                        self._log(kind.__name__, kind.__module__, recorded, seconds, error=error)
                    raise
                if is_outermost:
                    seconds = time.monotonic() - began
                    recorded = functools.partial(_parameters_and_metrics, estimator)
                    found = _candidates(estimator) if self._children else []
                    self._log(kind.__name__, kind.__module__, recorded, seconds, candidates=found)
                return result

        _mark(logged, self, fit)
        return logged

    def _wrapped_train(self, train: Callable[..., Any], library: str) -> Callable[..., Any]:
        @functools.wraps(train)
        def logged(params: Any, *args: Any, **kwargs: Any) -> Any:
            if not self.is_active:
                return train(params, *args, **kwargs)
            with _nesting() as is_outermost:
                history: dict[str, Any] = {}
                if is_outermost:
                    history, kwargs = _with_history(train, library, (params, *args), kwargs)
                began = time.monotonic()
                try:
                    booster = train(params, *args, **kwargs)
                except BaseException as error:
                    if is_outermost:
                        seconds = time.monotonic() - began
                        name = f"{library}.train"
                        self._log(name, library, lambda: (params, {}), seconds, error=error)
                    raise
                if is_outermost:
                    seconds = time.monotonic() - began
                    self._log(f"{library}.train", library, lambda: (params, history), seconds)
                return booster

        _mark(logged, self, train)
        return logged

    def _log(
        self,
        name: str,
        module: str,
        measured: Callable[[], tuple[Mapping[str, Any], Mapping[str, Any]]],
        seconds: float,
        *,
        error: BaseException | None = None,
        candidates: Sequence[tuple[dict[str, Any], dict[str, float]]] = (),
    ) -> None:
        try:
            with self.operation():
                parameters, history = measured()
                known = {str(k): _plain(v) for k, v in parameters.items() if v is not None}
                tags = {"autolog": "true", "library": module.partition(".")[0]}
                points = [("fit_seconds", seconds, 0), *_points(history)]
                run_id = self._write(name, known, tags, points, error)
                for number, (tried, metrics) in enumerate(candidates):
                    self._write_candidate(run_id, f"{name}-{number}", tried, metrics)
        except Exception:
            logger.warning("a fit of %s could not be logged", name, exc_info=True)

    def _write(
        self,
        name: str,
        parameters: dict[str, Any],
        tags: dict[str, str],
        points: list[tuple[str, float, int]],
        error: BaseException | None,
    ) -> str:
        tracker = self._context.experiment_tracker
        failed = None if error is None else described(error)
        run_id = current_run_id()
        if run_id is not None:
            if failed is not None:
                tags = tags | {"autolog_error": failed}
            tracker.log_batch(run_id, points, parameters, tags)
            return run_id
        experiment = self._context.experiment.experiment_id
        run = tracker.start_run(experiment, name, tags=tags, parameters=parameters)
        tracker.log_batch(run.run_id, points)
        tracker.end_run(
            run.run_id, RunStatus.COMPLETED if failed is None else RunStatus.FAILED, failed
        )
        return run.run_id

    def _write_candidate(
        self, parent: str, name: str, parameters: dict[str, Any], metrics: dict[str, float]
    ) -> None:
        tracker = self._context.experiment_tracker
        known = {str(k): _plain(v) for k, v in parameters.items()}
        home = tracker.get_run(parent).experiment_id
        run = tracker.start_run(home, name, parent, {"autolog": "true"}, known)
        tracker.log_metrics(run.run_id, metrics)
        tracker.end_run(run.run_id)


class _Elsewhere:
    """What stands for autologging in a process that does not have it."""

    is_active = False


def _mark(logged: Any, autologging: Autolog, original: Any) -> None:
    """Let a wrapper show whose it is, and what it wraps."""
    logged.ops_autolog = (autologging, original)


def _first_active(function: Any) -> Any:
    """Return a function without wrappers of autologging that has been stopped."""
    while (mark := getattr(function, "ops_autolog", None)) is not None and not mark[0].is_active:
        function = mark[1]
    return function


def _with_history(
    train: Any, library: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return where a training puts what it measures, and the arguments with which it does so."""
    if library == "xgboost":
        given = kwargs.get("evals_result")
        history = {} if given is None else given
        return history, kwargs | {"evals_result": history}
    history = {}
    if "callbacks" in inspect.signature(train).bind_partial(*args).arguments:
        return history, kwargs  # given by position, and so not to be replaced
    callbacks = [*(kwargs.get("callbacks") or ()), sys.modules[library].record_evaluation(history)]
    return history, kwargs | {"callbacks": callbacks}


@contextlib.contextmanager
def _nesting() -> Iterator[bool]:
    """Return whether this call is not inside another one, of this thread or of the search it works for."""
    depth = getattr(_depth, "value", 0)
    if depth == 0 and _outermost and _is_of_a_pool():
        yield False
        return
    mark = object()
    if depth == 0:
        _outermost.add(mark)
    _depth.value = depth + 1
    try:
        yield depth == 0
    finally:
        _depth.value = depth
        _outermost.discard(mark)


def _is_of_a_pool() -> bool:
    """Whether this thread is one of a `multiprocessing.pool.ThreadPool`, as joblib's are."""
    dummy = sys.modules.get("multiprocessing.dummy")
    return dummy is not None and isinstance(threading.current_thread(), dummy.DummyProcess)


class _Finder:
    """Calls *loaded* with each watched module when it was imported; on `sys.meta_path`."""

    def __init__(self, loaded: Callable[[Any], None]) -> None:
        self._loaded = loaded

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Return the spec that the other finders have, whose loader also notifies when it is done."""
        if name not in _WATCHED:
            return None
        for finder in sys.meta_path:
            if isinstance(finder, _Finder):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                self._notify_when_loaded(spec.loader)
                return spec
        return None

    def _notify_when_loaded(self, loader: Any) -> None:
        load = loader.exec_module

        def exec_module(module: Any) -> None:
            load(module)
            try:
                self._loaded(module)
            except Exception:
                logger.warning("fits of %s are not logged", module.__name__, exc_info=True)

        loader.exec_module = exec_module


def _parameters(estimator: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the parameters of an estimator whose fit failed."""
    return estimator.get_params(deep=False), {}


def _candidates(estimator: Any) -> list[tuple[dict[str, Any], dict[str, float]]]:
    """Return the parameters and mean scores of all that a search has tried."""
    results = getattr(estimator, "cv_results_", None)
    if not isinstance(results, dict) or "params" not in results:
        return []
    means = {key: values for key, values in results.items() if key.startswith("mean_")}
    return [
        (dict(tried), {key: float(values[number]) for key, values in means.items()})
        for number, tried in enumerate(results["params"])
    ]


def _parameters_and_metrics(estimator: Any) -> tuple[dict[str, Any], dict[str, Any]]:
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
