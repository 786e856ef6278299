"""The configuration of a report, checked as a whole before anything is read.

Each report knows the keys that it uses; another key is an error, since a misspelt filter or price would
make a wrong invoice. Sheets are named by their titles, in any case, with "_" for " " if one likes.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from typing import TYPE_CHECKING, Any

from ops.foundation.errors import name_hint
from ops.foundation.instants import require_aware
from ops.metrics_collect.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from ops.metrics_collect.dedup import Deduplication

__all__ = ["COMMON", "USAGE", "Settings", "time_of"]

#: Lines above the first table that every report shows, empty or not.
_ALWAYS = {
    "company": "Company",
    "sku": "SKU",
    "sku_description": "SKU description",
    "period": "Period",
}
#: Lines that are shown when they are given.
_WHERE_GIVEN = {
    "email": "Email",
    "login": "Login",
    "purchase_order": "Purchase order",
    "business_leader": "Business leader",
    "procurement_leader": "Procurement leader",
    "end_user": "End user",
    "end_user_city": "End user's city",
    "end_user_state": "End user's state",
    "end_user_country": "End user's country",
}
#: Keys of every report.
COMMON = frozenset({*_ALWAYS, *_WHERE_GIVEN, "price", "deduplicate", "sheets", "since", "until"})
#: Keys of the reports of usage.
USAGE = COMMON | {"organizations"}
_MODES: tuple[Deduplication, ...] = ("ccsp", "renewal")


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """what a report is made with.

    Attributes:
        lines: of the top of the first sheet: titles and values.
        price: of a node; a report without prices takes the same configuration.
        deduplicate: how hosts with several names are found, None for not at all.
        organizations: the only ones that are reported, None for all.
        sheets: the only ones that are made, by their keys, None for all.
        since: with *until*, the period.
        until: see *since*.
    """

    lines: tuple[tuple[str, Any], ...] = ()
    price: float = 0.0
    deduplicate: Deduplication | None = None
    organizations: frozenset[str] | None = None
    sheets: frozenset[str] | None = None
    since: dt.datetime | None = None
    until: dt.datetime | None = None

    @classmethod
    def of(
        cls, config: Mapping[str, Any], known: Collection[str], sheets: Iterable[str]
    ) -> Settings:
        """Check *config*, which may have the keys *known*, for a report of *sheets*.

        Raises `ParameterError` for an unknown key, sheet or mode, and for a value of another kind.
        """
        for key in config:
            if key not in known:
                raise ParameterError(
                    f"The configuration has an unknown key {key!r}; {name_hint(key, known)}"
                )
        since, until = time_of(config, "since"), time_of(config, "until")
        if since is not None and until is not None and since >= until:
            raise ParameterError(
                f"The configuration has since={config['since']!r}, which is not before "
                f"until={config['until']!r}."
            )
        mode = config.get("deduplicate")
        if mode is not None and mode not in _MODES:
            raise ParameterError(
                f"The configuration has deduplicate={mode!r}; {name_hint(mode, _MODES)}"
            )
        organizations = _texts(config, "organizations")
        return cls(
            _lines(config, since, until),
            _price(config.get("price", 0)),
            mode,
            None if organizations is None else frozenset(organizations),
            _sheets(_texts(config, "sheets"), list(sheets)),
            since,
            until,
        )


def time_of(config: Mapping[str, Any], name: str) -> dt.datetime | None:
    """Return a time that may be given as text, as in a file of JSON."""
    given = config.get(name)
    if given is None:
        return None
    try:
        if not isinstance(given, str):
            return require_aware(given)
        time = dt.datetime.fromisoformat(given)
        return time if time.tzinfo else time.replace(tzinfo=dt.UTC)
    except (ValueError, AttributeError) as error:
        raise ParameterError(f"The configuration has {name}={given!r}: no time.") from error


def _lines(
    config: Mapping[str, Any], since: dt.datetime | None, until: dt.datetime | None
) -> tuple[tuple[str, Any], ...]:
    values = dict(config)
    if not values.get("period") and (since or until):
        values["period"] = " to ".join(_day(m) if m else "…" for m in (since, until))
    for name in (*_ALWAYS, *_WHERE_GIVEN):
        if not isinstance(values.get(name, ""), str | int | float | None):
            raise ParameterError(f"The configuration has {name}={values[name]!r}: no text.")
    return (
        *((title, values.get(name, "")) for name, title in _ALWAYS.items()),
        *((title, values[name]) for name, title in _WHERE_GIVEN.items() if values.get(name)),
    )


def _day(time: dt.datetime) -> str:
    utc = time.astimezone(dt.UTC)
    return f"{utc:%Y-%m-%d}" if utc.time() == dt.time() else f"{utc:%Y-%m-%d %H:%M}"


def _sheets(given: list[str] | None, there: list[str]) -> frozenset[str] | None:
    if given is None:
        return None
    found = set()
    for title in given:
        key = title.strip().lower().replace(" ", "_")
        if key not in there:
            raise ParameterError(f"There is no sheet {title!r}; {name_hint(key, there)}")
        found.add(key)
    return frozenset(found)


def _texts(config: Mapping[str, Any], name: str) -> list[str] | None:
    given = config.get(name)
    if given is None:
        return None
    texts = isinstance(given, list | tuple | set | frozenset) and all(
        isinstance(item, str) for item in given
    )
    if not texts or not given:
        raise ParameterError(f"The configuration has {name}={given!r}: write a list of names.")
    return list(given)


def _price(given: Any) -> float:
    try:
        if isinstance(given, bool):
            raise TypeError(given)  # noqa: TRY301 - as what float raises
        price = float(given)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"The configuration has price={given!r}: no number.") from error
    if not 0 <= price < math.inf:
        raise ParameterError(f"The configuration has price={given!r}: no amount.")
    return price
