"""Tags of models and experiments as tags of Unity Catalog, on what holds them.

Unity Catalog has tags on securables, and a model or an experiment of ours is none: it is rows and files. So
the volume, which has the files of the models, gets the tags of all their versions, and the table
of the runs those of the experiments: a search in Catalog Explorer for ``ops_team = ds``
finds the schema. A key that has several values has them all, sorted, with ``; `` between. The tags of runs
are not there: they are many, they change all the time, and a securable has 50 tags at the most.

Every key begins with ``ops_``: those are ours to set and to remove, and no tag that another program has put
there is touched. The statements take no parameters; what could end a literal is left out
(`literal`). Without APPLY TAG nothing is written: that is logged once.
"""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Literal

from ops.foundation.logs import get_logger
from ops.registry.databricks.failures import Failure, failure_in
from ops.registry.errors import InvalidValueError, MLOpsException

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterable, Mapping

    from ops.registry.databricks.warehouse import Warehouse

__all__ = ["CatalogTags", "literal"]

logger: logging.Logger = get_logger("ops.registry")

PREFIX = "ops_"
#: What Unity Catalog allows: tags per securable, and characters in a key and in a value.
_MOST, _LONGEST_KEY, _LONGEST_VALUE = 50, 255, 1000
_NOT_IN_KEYS = re.compile(r"[.,\-=/:]|^\s|\s$")
_KINDS = {"VOLUME": "volume", "TABLE": "table"}


class CatalogTags:
    """The tags of one securable, as this process last left them."""

    def __init__(
        self, warehouse: Warehouse, kind: Literal["VOLUME", "TABLE"], name: str, *, enabled: bool
    ) -> None:
        self._warehouse = warehouse
        self._kind = kind
        self._name = name
        self._enabled = enabled
        self._mutex = threading.Lock()
        self._left: dict[str, str] | None = None

    def mirror(self, tags: Iterable[Mapping[str, str]]) -> None:
        """Let the securable say what *tags* say together; that it cannot is logged, not raised."""
        if not self._enabled:
            return
        wanted = together(tags)
        with self._mutex:
            if wanted == self._left:
                return
            try:
                self._change(wanted)
            except MLOpsException as error:
                if failure_in(error) is Failure.DENIED:
                    self._enabled = False  # until it is granted, and this process is restarted
                logger.warning(
                    "%s %s has not the tags of what it holds: %s", self._kind, self._name, error
                )
            else:
                self._left = wanted

    def _change(self, wanted: Mapping[str, str]) -> None:
        there = self._read()
        new = {key: value for key, value in wanted.items() if there.get(key) != value}
        gone = [key for key in there if key not in wanted]
        alter = f"ALTER {self._kind} {self._warehouse.table(self._name)}"
        if new:
            pairs = ", ".join(f"{literal(k)} = {literal(v)}" for k, v in new.items())
            self._warehouse.define(f"{alter} SET TAGS ({pairs})")
        if gone:
            self._warehouse.define(f"{alter} UNSET TAGS ({', '.join(map(literal, gone))})")

    def _read(self) -> dict[str, str]:
        """Return the tags of ours that are there."""
        kind = _KINDS[self._kind]
        rows = self._warehouse.rows(
            f"SELECT tag_name, tag_value FROM `{self._warehouse.catalog}`.information_schema.{kind}_tags "  # noqa: S608 - names are checked, values are parameters
            f"WHERE schema_name = :schema AND {kind}_name = :name",
            schema=self._warehouse.schema.lower(),  # as Unity Catalog keeps it
            name=self._name,
        )
        there = {str(row["tag_name"]): str(row["tag_value"]) for row in rows}
        return {k: v for k, v in there.items() if k.startswith(PREFIX) and _is_literal(k)}


def together(tags: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Return the values of *tags* by key, joined; what Unity Catalog does not allow is left out."""
    values: dict[str, set[str]] = {}
    for one in tags:
        for key, value in one.items():
            name = PREFIX + key
            allowed = len(name) <= _LONGEST_KEY and not _NOT_IN_KEYS.search(name)
            if allowed and _is_literal(name) and _is_literal(value):
                values.setdefault(name, set()).add(value)
    return {key: _joined(values[key]) for key in sorted(values)[:_MOST]}


def literal(text: str) -> str:
    r"""Return *text* as a literal of SQL; what could end one is an `InvalidValueError`.

    Quotes could be escaped by a backslash, and a backslash by another, but whether a backslash escapes
    at all is up to a setting of the session (``spark.sql.parser.escapedStringLiterals``). A literal with
    neither is one everywhere.
    """
    if not _is_literal(text):
        raise InvalidValueError(
            f"{text!r:.100} cannot be a literal in SQL: it has quotes or the like."
        )
    return f"'{text}'"


def _is_literal(text: str) -> bool:
    return text.isprintable() and not set(text) & set("'\"`\\")


def _joined(values: set[str]) -> str:
    text = "; ".join(sorted(values))
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"
