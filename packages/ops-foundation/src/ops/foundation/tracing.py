"""OpenTelemetry spans around what the packages do, once the program has set a tracer provider.

Nothing here imports OpenTelemetry: a program that traces has imported it, so `sys.modules` answers
whether there is anything to do. Without a provider a span costs a dictionary lookup. Spans hold names,
counts and the types of errors, never messages or arguments, which may hold secrets.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, MutableMapping

__all__ = ["add_event", "inject", "is_traced", "span"]

Kind = Literal["INTERNAL", "CLIENT"]
_tracers: dict[str, tuple[Any, Any]] = {}  # scope: provider and its tracer


def is_traced() -> bool:
    """Return whether spans may be recorded: the OpenTelemetry SDK has been imported."""
    return "opentelemetry.sdk.trace" in sys.modules


@contextlib.contextmanager
def span(
    scope: str,
    name: str,
    attributes: Mapping[str, str | int | float | bool] | None = None,
    *,
    kind: Kind = "INTERNAL",
) -> Iterator[Any]:
    """Make a span current for the block, and yield it; None when nothing is traced.

    Args:
        scope: the instrumentation scope, a package such as "ops.resilience".
        name: the name of the span, of low cardinality.
        attributes: what the span starts with.
        kind: the OpenTelemetry span kind.

    An error that leaves the block sets the status to its type, and is raised.
    """
    tracer = _tracer(scope)
    if tracer is None:
        yield None
        return
    api = sys.modules["opentelemetry.trace"]
    with tracer.start_as_current_span(
        name,
        kind=api.SpanKind[kind],
        attributes=dict(attributes or {}),
        record_exception=False,  # it would record the message
        set_status_on_exception=False,
    ) as current:
        try:
            yield current
        except BaseException as error:
            current.set_attribute("error.type", type(error).__qualname__)
            current.set_status(api.Status(api.StatusCode.ERROR, type(error).__name__))
            raise


def add_event(name: str, attributes: Mapping[str, str | int | float | bool]) -> None:
    """Add an event to the span that is current, if there is one."""
    api = sys.modules.get("opentelemetry.trace")
    if api is not None:
        current = api.get_current_span()
        if current.is_recording():
            current.add_event(name, dict(attributes))


def inject(headers: MutableMapping[str, str]) -> None:
    """Add the headers that carry the current trace to another service."""
    if "opentelemetry.trace" in sys.modules:
        importlib.import_module("opentelemetry.propagate").inject(headers)


def _tracer(scope: str) -> Any:
    api = sys.modules.get("opentelemetry.trace")
    if api is None:
        return None
    provider = api.get_tracer_provider()
    if isinstance(provider, api.ProxyTracerProvider):
        return None  # the program has set none
    known = _tracers.get(scope)
    if known is None or known[0] is not provider:
        known = _tracers[scope] = provider, provider.get_tracer(scope)
    return known[1]
