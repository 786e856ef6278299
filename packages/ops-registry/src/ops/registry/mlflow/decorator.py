"""`mlflow_track`: each call of a function as a run in MLflow."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from ops.registry.mlflow.helper import as_metric
from ops.registry.mlflow.pipelines import MLflowPipelineTracker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ops.registry.mlflow.pipelines import TrackedRun

__all__ = ["mlflow_track"]

P = ParamSpec("P")
R = TypeVar("R")


def mlflow_track(
    experiment_name: str,
    tracking_uri: str | None = None,
    *,
    run_name: str | None = None,
    tags: Mapping[str, str] | None = None,
    log_arguments: bool = True,
    log_result: bool = True,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Track each call of a function, also of a coroutine function, as a run of *experiment_name*.

    *tracking_uri* is MLflow's address (None: the current one); *run_name* (None: the function's
    name) and *tags* are those of each run. With *log_arguments* the arguments become parameters;
    with *log_result* a number, or the numbers of a mapping, that is returned become metrics; so
    does ``duration_seconds``. A call that raises is a FAILED run. Nothing is sent before the first
    call.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        name = run_name or str(getattr(function, "__name__", type(function).__name__))
        signature = inspect.signature(function)

        def block(*args: Any, **kwargs: Any) -> Any:
            tracker = MLflowPipelineTracker(experiment_name, tracking_uri, tags=tags)
            given = signature.bind(*args, **kwargs)
            given.apply_defaults()
            parameters = _shown(given.arguments) if log_arguments else None
            return tracker.pipeline(name, parameters)

        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def tracked_later(*args: P.args, **kwargs: P.kwargs) -> Any:
                with block(*args, **kwargs) as run:
                    result = await function(*args, **kwargs)
                    if log_result:
                        _log_result(run, result)
                    return result

            return cast("Callable[P, R]", tracked_later)

        @functools.wraps(function)
        def tracked(*args: P.args, **kwargs: P.kwargs) -> R:
            with block(*args, **kwargs) as run:
                result = function(*args, **kwargs)
                if log_result:
                    _log_result(run, result)
                return result

        return tracked

    return decorate


def _shown(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments as parameters: plain values as they are, of others what they are."""
    plain = (str, int, float, bool, list, tuple, dict, type(None))
    return {
        key: value if isinstance(value, plain) else f"<{type(value).__qualname__}>"
        for key, value in arguments.items()
        if key not in {"self", "cls"}
    }


def _log_result(run: TrackedRun, result: Any) -> None:
    if isinstance(result, dict):
        run.log_metrics(result)
    elif (number := as_metric(result)) is not None:
        run.log_metrics({"result": number})
