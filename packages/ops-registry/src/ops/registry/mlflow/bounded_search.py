# mypy: disable-error-code="no-untyped-call,misc"
# (MLflow's search utilities are not annotated)
"""MLflow's searches with a bound on what they cost: LIKE in linear time, filters and patterns of limited length.

MLflow makes a regular expression of each pattern, whose time may grow with a power of the length of the text. Its parsers
and comparisons are kept; only what a LIKE compares with is another: the comparison is parsed as an ``=``, and its value is
an object that equals the texts which match. So every kind of search is bounded at its parser, whatever it looks at.
"""

from __future__ import annotations

from typing import Any

from mlflow.utils.search_utils import (
    SearchExperimentsUtils,
    SearchLoggedModelsUtils,
    SearchModelUtils,
    SearchModelVersionUtils,
    SearchUtils,
)

from ops.registry.errors import InvalidValueError
from ops.registry.mlflow.errors import invalid
from ops.registry.search.patterns import matcher

__all__ = [
    "MOST_CHARACTERS",
    "ExperimentSearch",
    "LoggedModelSearch",
    "ModelSearch",
    "ModelVersionSearch",
    "RunSearch",
]

#: MLflow's parser takes seconds for more; 500 ids of runs are shorter.
MOST_CHARACTERS = 20_000
_PATTERNS = {"LIKE", "ILIKE"}


class _Bounded:
    """Replaces what MLflow's parser returns for LIKE."""

    @classmethod
    def parse_search_filter(cls, filter_string: Any) -> list[dict[str, Any]]:
        """Return MLflow's comparisons; a filter or pattern that is too long is refused."""
        if isinstance(filter_string, str) and len(filter_string) > MOST_CHARACTERS:
            raise invalid(
                f"A filter has {MOST_CHARACTERS} characters at most, not {len(filter_string)}."
            )
        # Before a class of MLflow's in the bases.
        parent: Any = super()
        parsed: list[dict[str, Any]] = parent.parse_search_filter(filter_string)
        return [_linear(one) if cls._has_text(one) else one for one in parsed]

    @classmethod
    def _has_text(cls, one: dict[str, Any]) -> bool:
        """Whether LIKE is allowed; of a number MLflow's own comparison refuses it."""
        numbers: set[str] = cls.NUMERIC_ATTRIBUTES  # type: ignore[attr-defined]
        return one["type"] != "metric" and not (
            one["type"] == "attribute" and one["key"] in numbers
        )


def _linear(one: dict[str, Any]) -> dict[str, Any]:
    sign = str(one["comparator"]).upper()
    if sign not in _PATTERNS or not isinstance(one["value"], str):
        return one
    return one | {"comparator": "=", "value": _Matching(one["value"], ignores_case=sign == "ILIKE")}


class _Matching:
    """Equals every text that matches a pattern, in which MLflow knows no escapes."""

    __slots__ = ("_matches", "_shown")

    def __init__(self, pattern: str, *, ignores_case: bool) -> None:
        try:
            self._matches = matcher(pattern, ignores_case=ignores_case, escapes=False)
        except InvalidValueError as error:
            raise invalid(error.message) from error
        self._shown = (pattern, ignores_case)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and self._matches(other)

    __hash__ = None  # type: ignore[assignment]  # texts that it equals have other hashes


class RunSearch(_Bounded, SearchUtils):
    """Searches of runs."""


class ExperimentSearch(_Bounded, SearchExperimentsUtils):
    """Searches of experiments."""


class ModelSearch(_Bounded, SearchModelUtils):
    """Searches of registered models."""


class ModelVersionSearch(_Bounded, SearchModelVersionUtils):
    """Searches of versions of models."""


class LoggedModelSearch(_Bounded, SearchLoggedModelsUtils):
    """Searches of logged models, which the digest of a dataset is enough to order by."""

    @classmethod
    def parse_order_by_for_logged_models(cls, order_by: Any) -> Any:
        """Return what one clause asks for."""
        digest = order_by.get("dataset_digest") if isinstance(order_by, dict) else None
        requested = order_by if digest is None else order_by | {"dataset_digest": None}
        recorded = super().parse_order_by_for_logged_models(requested)
        recorded.dataset_digest = digest
        return recorded
