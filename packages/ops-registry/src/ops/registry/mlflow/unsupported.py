"""What MLflow's interfaces of stores have and this one does not: each such call is refused at once, by its feature's name.

MLflow's base classes answer with a bare NotImplementedError, which its server reports as an internal error (HTTP 500), and
clients repeat for minutes. `refuse_the_rest` looks at the base class that is installed and gives every method that is left
unserved an answer of its own (``NOT_IMPLEMENTED``, HTTP 501), those of later versions of MLflow too.
"""

from __future__ import annotations

import abc
import functools
import inspect
from typing import TYPE_CHECKING, Any, TypeVar

from ops.registry.mlflow.errors import unsupported

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["feature_of", "refuse_the_rest", "unserved"]

S = TypeVar("S")

#: Words in the names of methods, and the feature that they are about: the first that is found counts.
FEATURES = {
    "webhook": "webhooks",
    "guardrail": "guardrails of the AI gateway",
    "budget": "budgets of the AI gateway",
    "gateway": "the AI gateway",
    "endpoint_binding": "endpoints of the AI gateway",
    "model_to_endpoint": "endpoints of the AI gateway",
    "model_from_endpoint": "endpoints of the AI gateway",
    "secret": "secrets of the AI gateway",
    "mcp": "MCP servers",
    "label_schema": "label schemas",
    "review_queue": "review queues",
    "user_queue": "review queues",
    "issue": "issues",
    "online_scor": "online scoring",
    "scorer": "scorers",
    "assessment": "assessments",
    "session": "sessions of traces",
    "span": "spans of traces",
    "trace": "traces",
    "dataset": "evaluation datasets",
    "workspace": "workspaces",
}


def feature_of(method: str) -> str:
    """Return what a method is about, in the plural; one that no word fits is named as it is."""
    for word, feature in FEATURES.items():
        if word in method:
            return feature
    return f"the call {method!r}"


def unserved(store: type) -> Iterator[str]:
    """Yield the methods of MLflow's interface that *store* has from there, and that answer nothing there."""
    for name, method in inspect.getmembers(store, inspect.isfunction):
        is_ours = method.__module__.startswith("ops.")
        if is_ours or name.startswith("__"):
            continue
        if getattr(method, "__isabstractmethod__", False) or _answers_nothing(method):
            yield name


def refuse_the_rest(store: type[S]) -> type[S]:
    """Give *store* an answer for each method that is `unserved`, and return it."""
    for name in list(unserved(store)):
        setattr(store, name, _refusal(getattr(store, name), feature_of(name)))
    return abc.update_abstractmethods(store)


def _answers_nothing(method: Callable[..., Any]) -> bool:
    # The second without the name of what is missing.
    return not {"NotImplementedError", "MlflowNotImplementedException"}.isdisjoint(
        method.__code__.co_names
    )


def _refusal(method: Callable[..., Any], feature: str) -> Callable[..., Any]:
    def refused(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ARG001 - it refuses whatever comes
        raise unsupported(feature)

    async def refused_later(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ARG001 - as the method there
        raise unsupported(feature)

    made = refused_later if inspect.iscoroutinefunction(method) else refused
    made = functools.wraps(method)(made)
    made.__module__ = __name__  # `wraps` has copied MLflow's
    made.__doc__ = f"Raise MLflow's error: there are no {feature} here."
    made.__dict__.pop("__isabstractmethod__", None)
    return made
