"""The connection settings in a host's variables, which are JSON or YAML text written by people.

Most texts come again with every job of their host, so the decoded fields are remembered by the
digest of the text, for a bounded number of texts. Text that is neither JSON nor YAML has no fields.
"""

from __future__ import annotations

import functools
import json
from hashlib import blake2b
from typing import Any, ClassVar

from ops.foundation.helpers import LazyImport
from ops.metrics_collect.csv_parts import encode_row

__all__ = ["COLUMNS", "connection_fields", "hex_variables", "parse_variables"]

#: The fields that `connection_fields` gives.
COLUMNS = ("ansible_host_variable", "ansible_connection_variable")
_NAMES = ("ansible_host", "ansible_connection")
_REMEMBERED = 50_000
_remembered: dict[bytes, bytes] = {}

_yaml: Any = LazyImport("yaml", "ops-metrics-collect[postgres]")


def hex_variables(column: str) -> str:
    """Return SQL for a variables column on the wire: only texts that can name what we look for.

    A backslash may hide a name in an escape.
    """
    return (
        f"case when {column} like '%%ansible_host%%' or {column} like '%%ansible_connection%%' "
        f"or strpos({column}, E'\\\\') > 0 then encode(convert_to({column}, 'UTF8'), 'hex') end"
    )


def connection_fields(raw: bytes) -> bytes:
    """Return the CSV fields of COLUMNS for hex-coded variables."""
    if not raw:
        return b","
    digest = blake2b(raw, digest_size=16).digest()
    fields = _remembered.get(digest)
    if fields is None:
        variables = parse_variables(bytes.fromhex(raw.decode("ascii")).decode("utf-8"))
        fields = encode_row([_setting(variables.get(name)) for name in _NAMES])[:-1]
        if len(_remembered) >= _REMEMBERED:
            _remembered.clear()
        _remembered[digest] = fields
    return fields


def parse_variables(text: str) -> dict[str, Any]:
    """Return the variables of a host; nothing for text that is neither JSON nor YAML."""
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        parsed = _parse_yaml(text)
    return parsed if isinstance(parsed, dict) else {}


def _parse_yaml(text: str) -> Any:
    try:
        return _yaml.load(text, Loader=_loader())  # a safe loader
    except (_yaml.YAMLError, ValueError, RecursionError):
        return None


@functools.cache
def _loader() -> Any:
    # The C loader, where PyYAML has it, is 8 times as fast.
    base = getattr(_yaml, "CSafeLoader", _yaml.SafeLoader)

    class Loader(base):  # type: ignore[misc,valid-type]  # chosen above
        """Takes values with unknown tags, as !vault, for text, and dates for what they look like."""

        yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {
            first: [(tag, pattern) for tag, pattern in known if not tag.endswith(":timestamp")]
            for first, known in base.yaml_implicit_resolvers.items()
        }

    def tagged(loader: Any, _suffix: str, node: Any) -> Any:
        return (
            loader.construct_scalar(node)
            if hasattr(node, "value") and isinstance(node.value, str)
            else None
        )

    Loader.add_multi_constructor("!", tagged)
    return Loader


def _setting(value: Any) -> str | None:
    if value is None or isinstance(value, dict | list):
        return None
    return value if isinstance(value, str) else json.dumps(value, default=str)
