"""Plain data of a YAML document to a typed dataclass, by pydantic, with errors that name the position.

The schema that pydantic makes of the plain dataclass is adapted in a few points, so that the data
decide and nothing is guessed: numbers, bools and texts are strict (so a union takes the member that
fits exactly), times and decimals are not made from numbers, members of enums go by their names, and
unknown or missing keys name the dataclass. A default of None allows null.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
from typing import TYPE_CHECKING, Any

from ops.foundation.errors import name_hint
from ops.foundation.helpers import LazyImport
from ops.serialize.errors import ConfigError
from ops.serialize.yaml_tree import TreeError, YamlTree

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["read"]

_pydantic: Any = LazyImport("pydantic", extra="ops-serialize[yaml]")
_core: Any = LazyImport("pydantic_core", extra="ops-serialize[yaml]")
_yaml: Any = LazyImport("yaml", extra="ops-serialize[yaml]")

_STRICT = frozenset(("int", "float", "bool", "str", "bytes"))
_TEXT_ONLY = frozenset(("date", "time", "datetime", "decimal", "uuid", "complex"))


def read(text: str, cls: Any, *, source: str, env: bool) -> Any:
    """Return an instance of the dataclass *cls*; raises `ConfigError` that names *source*."""
    tree = _tree(text, source, env=env)
    if tree.is_empty:
        raise ConfigError(f"{source} is empty; {cls.__name__} needs a mapping.")
    validator = _validator(cls)
    try:
        value = validator.validate_python([tree.root])[0]
    except _core.ValidationError as error:
        raise _located(text, source, _main_error(error, tree.root), env=env) from error
    except RecursionError:
        raise ConfigError(f"{source} is nested too deeply.") from None
    except Exception as error:  # of __post_init__, __hash__ or a validator of the user
        raise ConfigError(
            f"{cls.__name__} refused the values of {source}: {type(error).__name__}: {error}"
        ) from error
    _refuse_ambiguous_words(tree, validator, text, source, env=env)
    return value


def _tree(text: str, source: str, *, env: bool, positions: bool = False) -> YamlTree:
    try:
        return YamlTree(text, env=env, positions=positions)
    except TreeError as error:
        raise _error(error.message, source, error.path, error.mark) from None
    except _yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        deep = "nested too deeply" if "nesting depth" in str(error) else f"no valid YAML: {error}"
        raise ConfigError(
            f"{source} is {deep}",
            line=None if mark is None else mark.line + 1,
            column=None if mark is None else mark.column + 1,
        ) from error
    except UnicodeError as error:
        raise ConfigError(f"{source} is no text that YAML allows: {error}") from error


def _error(message: str, source: str, path: list[Any], mark: Any) -> ConfigError:
    where = "$" + "".join(f"[{p}]" if type(p) is int else f".{p}" for p in path)
    return ConfigError(
        f"{message}, in {source}.", path=where, line=mark.line + 1, column=mark.column + 1
    )


def _refuse_ambiguous_words(
    tree: YamlTree, validator: Any, text: str, source: str, *, env: bool
) -> None:
    """Raise where `yes`, `no`, `on` or `off` was read as a bool although a text fits as well."""
    for (_, key), (container, word) in tree.words.items():
        meaning = container[key]
        container[key] = word
        fits = _fits(validator, tree.root)
        container[key] = meaning
        if not fits:
            continue
        meant = str(meaning).lower()
        problem = _Problem(
            [], f"{word} is the boolean {meant} in YAML 1.1; write {meant} or '{word}'"
        )
        problem.path = _path_to(tree.root, container, key)
        raise _located(text, source, problem, env=env)


def _fits(validator: Any, root: Any) -> bool:
    try:
        validator.validate_python([root])
    except Exception:  # noqa: BLE001 - it does not fit, whichever error reports it
        return False
    return True


def _path_to(root: Any, container: Any, key: Any) -> list[Any]:
    if root is container:
        return [key]
    items = root.items() if isinstance(root, dict) else enumerate(root)
    for name, value in items:
        if isinstance(value, dict | list):
            found = _path_to(value, container, key)
            if found:
                return [name, *found]
    return []


# Errors


@dataclasses.dataclass
class _Problem:
    """What is wrong, at which path of the data; *key* is a key there that is meant."""

    path: list[Any]
    message: str
    key: Any = None
    is_counted: bool = (
        False  # one of several about the items that are missing: the last has the number
    )


def _located(text: str, source: str, problem: _Problem, *, env: bool) -> ConfigError:
    """Return the error with line and column, for which the text is read again."""
    tree = _tree(text, source, env=env, positions=True)
    value, mark, word = tree.root, tree.mark, None
    marks = tree.marks or {}
    for part in problem.path:
        found = (id(value), part)
        word = tree.words.get(found)
        value, mark = value[part], marks[found][1]
    if problem.key is not None and (id(value), problem.key) in marks:
        mark = marks[id(value), problem.key][0]
    shown = _shown(value) if word is None else f"{word[1]} (a boolean in YAML)"
    return _error(problem.message.replace("\0", shown), source, problem.path, mark)


def _main_error(error: Any, root: Any) -> _Problem:
    """Return the first of the errors that are deepest in the data.

    Several for one value are what each member of a union misses.
    """
    found = [_problem(one) for one in error.errors(include_url=False)]
    for problem, _ in found:
        problem.path = _path_in(root, problem.path)
    depth = max(len(problem.path) for problem, _ in found)
    first = next(problem for problem, _ in found if len(problem.path) == depth)
    here = [(problem, kind) for problem, kind in found if problem.path == first.path]
    messages = {problem.message for problem, _ in here}
    kinds = list(dict.fromkeys(kind for _, kind in here if kind))
    if len(messages) > 1 and len(kinds) > 1:
        return _Problem(first.path, f"\0 is no {' or '.join(kinds)}")
    return here[-1][0] if first.is_counted else first


def _path_in(root: Any, parts: list[Any]) -> list[Any]:
    """Return *parts* without the names of members of unions, which are no keys of the data."""
    path = []
    for part in parts:
        is_item = isinstance(root, list) and type(part) is int and part < len(root)
        if is_item or (isinstance(root, dict) and part in root):
            root = root[part]
            path.append(part)
    return path


_SENTENCES = {
    "int_type": "\0 is no int",
    "int_from_float": "\0 is no int",
    "float_type": "\0 is no float",
    "bool_type": "\0 is no bool",
    "string_type": "\0 is no str; write it in quotes",
    "bytes_type": "\0 is no bytes; write them as !!binary",
    "list_type": "\0 is no list",
    "tuple_type": "\0 is no list for a tuple",
    "set_type": "\0 is no list for a set",
    "frozen_set_type": "\0 is no list for a frozenset",
    "dict_type": "\0 is no mapping for a dict",
    "mapping_type": "\0 is no mapping",
    "path_type": "\0 is one value, a text, where a Path belongs",
    "none_required": "\0 is not null",
}


def _problem(one: dict[str, Any]) -> tuple[_Problem, str]:
    """Return one error of pydantic as a problem, and the kind that it misses."""
    context = one.get("ctx", {})
    path, key = list(one["loc"])[1:], context.get("key")
    kind: str = one["type"]
    if kind in {"ops", "ops_key"}:
        return _Problem(path, one["msg"], key), context.get("kind", "")
    if path and path[-1] == "[key]":
        return _Problem(path[:-2], f"the key {one['input']!r}: {one['msg']}", path[-2]), ""
    if kind in {"too_short", "too_long"} and "actual_length" in context:
        belong = context.get("min_length", context.get("max_length"))
        return _Problem(path, f"{context['actual_length']} items where {belong} belong"), ""
    if kind == "missing" and path and type(path[-1]) is int:
        count = len(one["input"])
        message = f"{count} items where {path[-1] + 1} belong"
        return _Problem(path[:-1], message, is_counted=True), ""
    if kind == "literal_error":
        return _Problem(path, f"\0 is none of {context['expected']}"), ""
    sentence = _SENTENCES.get(kind)
    missed = kind.partition("_")[0].replace("string", "str").replace("none", "null")
    if sentence is None:
        return _Problem(path, f"\0: {one['msg']}"), missed
    return _Problem(path, sentence), missed


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | set):
        return "a list"
    return "null" if value is None else repr(value)


# The schema


@functools.lru_cache(maxsize=256)
def _validator(cls: type[Any]) -> Any:
    """Return what makes `[cls]` from a list of plain data."""
    config = {"extra": "forbid", "arbitrary_types_allowed": True, "val_json_bytes": "base64"}
    try:
        # In a list, since the configuration of a dataclass is not ours to give.
        adapter = _pydantic.TypeAdapter(list[cls], config=config)  # type: ignore[valid-type]
        return _core.SchemaValidator(_adapted(adapter.core_schema))
    except (_pydantic.errors.PydanticUserError, _core.SchemaError, NameError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(
            f"The types of {cls.__name__} cannot be read from YAML: {reason}"
        ) from error


def _adapted(schema: Any) -> Any:
    """Return a copy of a core schema in which the data decide."""
    if isinstance(schema, list):
        return [_adapted(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kind = schema.get("type")
    if kind == "enum":
        return _by_function(functools.partial(_member, schema["cls"]), schema, schema["cls"])
    if kind == "literal" and any(isinstance(v, enum.Enum) for v in schema["expected"]):
        return _by_function(functools.partial(_choice, schema["expected"]), schema, enum.Enum)
    made = {
        name: value if name in _NO_SCHEMAS else _adapted(value) for name, value in schema.items()
    }
    if kind in _STRICT:
        made["strict"] = True
    elif kind in _TEXT_ONLY:
        if kind == "decimal":
            made["allow_inf_nan"] = True
        return _before(functools.partial(_no_number, str(kind)), made)
    elif kind == "timedelta":
        return _before(_no_bool, made)
    elif kind == "dataclass-field" and made["schema"].get("type") == "default":
        default = made["schema"]
        if default.get("default", default) is None and default["schema"]["type"] != "nullable":
            default["schema"] = {"type": "nullable", "schema": default["schema"]}
    elif kind in {"dataclass-args", "typed-dict"}:
        made["extra_behavior"] = "forbid"
    if kind == "dataclass":
        return _before(functools.partial(_checked_keys, *_keys(schema)), made)
    return made


_NO_SCHEMAS = frozenset(
    [
        "type",
        "cls",
        "config",
        "default",
        "default_factory",
        "expected",
        "function",
        "members",
        "metadata",
        "ref",
        "schema_ref",
        "serialization",
    ]
)


def _before(function: Callable[[Any], Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Return *schema* with *function* applied first; a reference to it stays one."""
    made = {
        "type": "function-before",
        "function": {"type": "no-info", "function": function},
        "schema": schema,
    }
    if "ref" in schema:
        made["ref"] = schema.pop("ref")
    return made


def _by_function(
    function: Callable[[Any], Any], schema: dict[str, Any], exact: type[Any]
) -> dict[str, Any]:
    """Return a schema of *function*, which gives way in a union to a member that fits exactly."""
    plain = {"type": "function-plain", "function": {"type": "no-info", "function": function}}
    made = {
        "type": "lax-or-strict",
        "lax_schema": plain,
        "strict_schema": {"type": "is-instance", "cls": exact},
    }
    if "ref" in schema:
        made["ref"] = schema["ref"]
    return made


def _refused(message: str, **context: Any) -> Exception:
    error: Exception = _core.PydanticCustomError("ops", "{text}", {"text": message, **context})
    return error


def _keys(schema: dict[str, Any]) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Return the name of a dataclass, its keys, and those that it needs."""
    args = schema["schema"]
    while "fields" not in args:
        args = args["schema"]
    fields = [f for f in args["fields"] if f.get("init", True)]
    names = tuple(f["name"] for f in fields)
    needed = tuple(f["name"] for f in fields if f["schema"]["type"] != "default")
    return args["dataclass_name"], names, needed


def _checked_keys(name: str, names: tuple[str, ...], needed: tuple[str, ...], value: Any) -> Any:
    """Return the mapping *value* if its keys are those of the dataclass."""
    if not isinstance(value, dict):
        raise _refused(f"\0 is no mapping for {name}", kind=name)
    for key in value:
        if key not in names:
            raise _refused(f"{name} has no field {key!r}; {name_hint(key, names)}", key=key)
    missing = [key for key in needed if key not in value]
    if missing:
        raise _refused(f"{name} needs {', '.join(missing)}")
    return value


def _no_number(kind: str, value: Any) -> Any:
    if isinstance(value, bool | float) or (isinstance(value, int) and kind != "decimal"):
        raise _refused(f"\0 is no {kind}; write it in quotes", kind=kind)
    return value


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise _refused("\0 is no timedelta; write seconds, or as in 'PT1H30M'", kind="timedelta")
    return value


def _member(kind: Any, value: Any) -> Any:
    """Return the member of the enum *kind* with this name, or else with this value."""
    if isinstance(value, str):
        if value in kind.__members__:
            return kind.__members__[value]
        if issubclass(kind, enum.Flag) and "|" in value:
            return functools.reduce(
                lambda a, b: a | b, (_member(kind, p) for p in value.split("|"))
            )
    for member in kind:
        if type(member.value) is type(value) and member.value == value:
            return member
    if issubclass(kind, enum.Flag) and type(value) is int:
        try:
            return kind(value)
        except ValueError:
            pass
    raise _refused(
        f"\0 is no {kind.__name__}; there are {list(kind.__members__)}", kind=kind.__name__
    )


def _choice(choices: list[Any], value: Any) -> Any:
    for choice in choices:
        if isinstance(choice, enum.Enum):
            if value == choice.name and isinstance(value, str):
                return choice
        elif type(choice) is type(value) and choice == value:
            return choice
    names = [c.name if isinstance(c, enum.Enum) else c for c in choices]
    raise _refused(f"\0 is none of {names}")
