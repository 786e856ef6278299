"""The same machine under several names: found by host name, serial number and machine id.

Hosts are joined by union-find: if a equals b by serial and b equals c by machine id, the three are
one. What vendors write where a serial is missing joins nothing. The name of a machine is the first of
its names in the order of the alphabet, whatever order the hosts come in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from ops.metrics_collect.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["Deduplication", "host_identities"]

Deduplication: TypeAlias = Literal["ccsp", "renewal"]

_NO_SERIALS = {
    *("", "0", "na", "n/a", "none", "null", "unknown", "default string", "not specified"),
    *("not available", "system serial number", "to be filled by o.e.m.", "123456789"),
}


def host_identities(
    hosts: Iterable[Mapping[str, object]], mode: Deduplication = "ccsp"
) -> dict[str, str]:
    """Return for each host name the name of its machine.

    *hosts* are rows of `DataframeMainHost`: `host_name`, `serials` and `machine_ids`. *mode* "ccsp"
    joins hosts that share a serial and a machine id together, "renewal" those that share either.
    Raises `ParameterError` for another mode.
    """
    if mode not in {"ccsp", "renewal"}:
        raise ParameterError(f"Hosts are deduplicated for ccsp or renewal, not {mode!r}.")
    groups = _Groups()
    for host in hosts:
        name = str(host["host_name"])
        groups.join(("name", name), ("name", name))
        for sign in _signs(_texts(host, "serials"), _texts(host, "machine_ids"), mode):
            groups.join(("name", name), sign)
    names: dict[object, list[str]] = {}
    for item in groups.items():
        if item[0] == "name":
            names.setdefault(groups.root(item), []).append(str(item[1]))
    return {name: min(group) for group in names.values() for name in group}


def _signs(
    serials: list[str], machine_ids: list[str], mode: Deduplication
) -> Iterator[tuple[str, object]]:
    if mode == "ccsp":
        yield from (("both", (s, m)) for s in serials for m in machine_ids)
    else:
        yield from (("serial", s) for s in serials)
        yield from (("machine", m) for m in machine_ids)


def _texts(host: Mapping[str, object], name: str) -> list[str]:
    values = host.get(name)
    texts = [str(v).strip() for v in values] if isinstance(values, list | tuple | set) else []
    return [t for t in texts if t.lower() not in _NO_SERIALS]


class _Groups:
    """Union-find with path halving."""

    def __init__(self) -> None:
        self._parents: dict[tuple[str, object], tuple[str, object]] = {}

    def join(self, one: tuple[str, object], other: tuple[str, object]) -> None:
        self._parents.setdefault(one, one)
        self._parents.setdefault(other, other)
        self._parents[self.root(one)] = self.root(other)

    def root(self, item: tuple[str, object]) -> tuple[str, object]:
        while self._parents[item] != item:
            self._parents[item] = self._parents[self._parents[item]]
            item = self._parents[item]
        return item

    def items(self) -> list[tuple[str, object]]:
        return list(self._parents)
