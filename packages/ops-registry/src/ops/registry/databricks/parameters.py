"""Values of statements as native parameters: the right types, and never more than a statement may have.

Databricks refuses a statement with more than 256 parameters
(databricks-sql-nodejs#308, databricks-sql-python#300: "too many parameters: 2000 parameters were given but the
limit is 256"); 255 is what every version takes. All statements pass `bound`, which puts what is
beyond that into one JSON parameter, and so no builder of a statement counts. `Values` collects values while a
statement is built; a long list is one parameter there from the beginning.

Types are given, not inferred: the connector binds a float with 32 bits before version 4.2.6
(databricks-sql-python#741), and ``0.9`` became ``0.89999998``.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["MOST_PARAMETERS", "Values", "bound", "fitted"]

#: How many parameters a statement has at the most.
MOST_PARAMETERS = 255
#: A list of up to so many values stays a list, by which files can be skipped.
_LISTED = 50
_PACKED = "packed_values"
_MARKER = re.compile(r"(?<![:\w]):([A-Za-z_]\w*)")


class Values:
    """The values of a statement that is built: `add` returns the marker that stands for one."""

    def __init__(self) -> None:
        self.parameters: dict[str, Any] = {}

    def add(self, value: Any) -> str:
        """Keep a value and return its marker."""
        name = f"p{len(self.parameters)}"
        self.parameters[name] = value
        return f":{name}"

    def among(self, values: Iterable[str]) -> str:
        """Return what stands behind IN for texts: a list, or a query that takes apart one parameter."""
        listed = list(values)
        if len(listed) <= _LISTED:
            return f"({', '.join(map(self.add, listed))})"
        return f"(SELECT explode(from_json({self.add(json.dumps(listed))}, 'array<string>')))"


def fitted(statement: str, parameters: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the statement and its parameters with no more of them than a statement may have.

    What is beyond becomes elements of one JSON parameter, cast to what they were.
    """
    if len(parameters) <= MOST_PARAMETERS:
        return statement, dict(parameters)
    items = list(parameters.items())
    kept, packed = items[: MOST_PARAMETERS - 1], items[MOST_PARAMETERS - 1 :]
    elements = {name: _element(number, value) for number, (name, value) in enumerate(packed, 1)}
    texts = [None if value is None else _text(value) for _, value in packed]
    # Markers only: quoted texts in statements of this package have none.
    made = _MARKER.sub(lambda found: elements.get(found[1], found[0]), statement)
    return made, {**dict(kept), _PACKED: json.dumps(texts)}


def bound(statement: str, parameters: Mapping[str, Any]) -> tuple[str, list[Any] | None]:
    """Return what the connector's cursor executes: no more parameters than allowed, each with its type."""
    if not parameters:
        return statement, None
    from databricks.sql.parameters.native import DoubleParameter, dbsql_parameter_from_primitive

    statement, values = fitted(statement, parameters)
    return statement, [
        DoubleParameter(value=value, name=name)
        if isinstance(value, float)
        else dbsql_parameter_from_primitive(value, name=name)
        for name, value in values.items()
    ]


def _element(number: int, value: Any) -> str:
    """Return the expression of an element of the packed parameter, whose type is that of *value*."""
    element = f"element_at(from_json(:{_PACKED}, 'array<string>'), {number})"
    if isinstance(value, bool):
        return f"CAST({element} AS BOOLEAN)"
    if isinstance(value, int):
        return f"CAST({element} AS BIGINT)"
    return f"CAST({element} AS DOUBLE)" if isinstance(value, float) else element


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, (int, float)) else str(value)
