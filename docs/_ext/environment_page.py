"""The page of the environment variables, written from the comments beside the code that reads them.

A comment begins with `# Environment NAME, NAME: ` and runs to the end of its lines. `read` finds the variables in
the code itself, so that a test sees one that is read and not described, or described and not read:

- the names in calls of `get`, in subscripts and in tests of a module that uses `os.environ`;
- the upper-case strings of the tables of such a module, which loops and helpers look up;
- names that are put together: `f"PREFIX_{name}"` over a table of the module, or in a helper that is called with
  the rest of the name.
"""

from __future__ import annotations

import ast
import pathlib
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sphinx.application import Sphinx

ROOT = pathlib.Path(__file__).parents[2]
_BEGIN = re.compile(r"\s*# Environment [A-Z_][A-Z0-9_]+[,:]")
_COMMENT = re.compile(r"Environment ([A-Z_][A-Z0-9_]*(?:, [A-Z_][A-Z0-9_]*)*): (.*)")
_NAME = re.compile(r"_?[A-Z][A-Z0-9]*(_[A-Z0-9]+)+|CI|TERM")
_PREFIX = re.compile(r"[A-Z][A-Z0-9]*_([A-Z0-9]+_)*")
#: Calls whose texts are codes of findings or names in a module, which look like variables.
_CODES = ("failure", "remark", "getattr", "hasattr")
#: What is looked up elsewhere than in the environment, in modules that read it too: settings of an
#: automation controller, os-release, flags of open(2), and the values of DATABRICKS_ variables by the rest of their name.
_ELSEWHERE = frozenset(
    {
        "AUTHENTICATION_BACKENDS",
        "AUTH_TYPE",
        "CLIENT_ID",
        "CLIENT_SECRET",
        "CONFIG_PROFILE",
        "HTTP_PATH",
        "INSTALL_UUID",
        "LOG_AGGREGATOR_ENABLED",
        "LOG_AGGREGATOR_LOGGERS",
        "LOG_AGGREGATOR_TYPE",
        "O_CLOEXEC",
        "O_NOFOLLOW",
        "O_NONBLOCK",
        "PENDO_TRACKING_STATE",
        "SUBSCRIPTION_USAGE_MODEL",
        "SYSTEM_UUID",
        "TOWER_URL_BASE",
        "VERSION_CODENAME",
        "VERSION_ID",
        "WAREHOUSE_ID",
    }
)
_HEAD = """# Environment variables

What is read from the environment, by package. An argument that is given in code counts before the variable. A variable is read when the
call that needs it is made, and not when a package is imported.

Variables that you name yourself are not listed: `${NAME}` in the YAML of `ops.serialize.YamlConfig`, and the name passed to
`Signed.from_env`.
"""


class Variable(NamedTuple):
    """What a comment has: the names, the text, and the distribution that reads them."""

    names: tuple[str, ...]
    text: str
    distribution: str


def sources(root: pathlib.Path = ROOT) -> Iterator[tuple[str, str]]:
    """Yield the distribution and the source of each module."""
    for path in sorted(root.glob("packages/*/src/**/*.py")):
        yield path.relative_to(root).parts[1], path.read_text(encoding="utf-8")


def described(root: pathlib.Path = ROOT) -> list[Variable]:
    """Return what the comments have, in the order of the modules.

    Raises ValueError for a comment that begins as one of these and lacks names or text.
    """
    found = []
    for distribution, source in sources(root):
        for comment in _comments(source):
            match = _COMMENT.fullmatch(comment)
            if match is None:
                raise ValueError(f"{distribution}: write names, a colon and text, not {comment!r}")
            found.append(Variable(tuple(match[1].split(", ")), match[2], distribution))
    return found


def _comments(source: str) -> Iterator[str]:
    """Yield each comment on one line."""
    comment: list[str] = []
    for line in (*source.splitlines(), ""):
        if comment and (_BEGIN.match(line) or not line.lstrip().startswith("# ")):
            yield " ".join(comment)
            comment = []
        if comment or _BEGIN.match(line):
            comment.append(line.lstrip().removeprefix("# "))


def read(root: pathlib.Path = ROOT) -> set[str]:
    """Return the names of all variables that the code reads."""
    names: set[str] = set()
    helpers: dict[str, str] = {}
    modules = [
        ast.parse(source) for _, source in sources(root) if re.search(r"\benviron\b", source)
    ]
    for module in modules:
        names |= _in_module(module)
        helpers |= _helpers(module)
    for module in (ast.parse(source) for _, source in sources(root)):
        for call in ast.walk(module):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") in helpers:
                prefix = helpers[call.func.id]
                names |= {prefix + text.upper() for text in map(_text, call.args) if text}
    return names


def _in_module(module: ast.Module) -> set[str]:
    others = {id(part) for node in ast.walk(module) for part in _codes(node)}
    names: set[str] = set()
    for loop in ast.walk(module):
        if not isinstance(loop, ast.DictComp | ast.ListComp | ast.GeneratorExp):
            continue
        if prefixes := [prefix for prefix, _ in _composed(loop)]:
            table = _table(module, loop.generators[0].iter)
            others |= {id(node) for node in table}
            names |= {prefix + _text(node) for prefix in prefixes for node in table}
    texts = [node for node in ast.walk(module) if id(node) not in others]
    found = {_text(node) for node in texts if _NAME.fullmatch(_text(node))}
    found |= {_text(node) for call in ast.walk(module) for node in _looked_up(call)} - {""}
    return names | (found - _ELSEWHERE)


def _codes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield texts that are no variables: codes, members of enumerations, names in a module."""
    if isinstance(node, ast.keyword) and node.arg == "code":
        yield node.value
    elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in _CODES:
        yield from node.args
    elif isinstance(node, ast.Compare) and getattr(node.left, "attr", "") == "code":
        yield from node.comparators
    elif isinstance(node, ast.ClassDef) and "Enum" in " ".join(map(ast.unparse, node.bases)):
        yield from ast.walk(node)
    elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
        yield from ast.walk(node.value)


def _looked_up(node: ast.AST) -> list[ast.expr]:
    """Return the first argument of `environ.get`, whatever it looks like."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return []
    is_get = node.func.attr == "get" and ast.unparse(node.func.value).endswith("environ")
    return node.args[:1] if is_get else []


def _composed(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield prefix and variable of each `f"PREFIX_{variable}"`."""
    for text in ast.walk(node):
        if isinstance(text, ast.JoinedStr) and len(text.values) == 2:
            prefix, value = text.values
            if isinstance(prefix, ast.Constant) and _PREFIX.fullmatch(str(prefix.value)):
                inner = {n.id for n in ast.walk(value) if isinstance(n, ast.Name)}
                yield from ((str(prefix.value), name) for name in inner)


def _helpers(module: ast.Module) -> dict[str, str]:
    """Return the prefix by the name of each function that puts a name together from its argument."""
    return {
        function.name: prefix
        for function in ast.walk(module)
        if isinstance(function, ast.FunctionDef)
        for prefix, name in _composed(function)
        if name in {argument.arg for argument in function.args.args}
    }


def _table(module: ast.Module, iterated: ast.expr) -> list[ast.AST]:
    """Return the upper-case strings of the table of the module that a loop goes through."""
    inner = {n.id for n in ast.walk(iterated) if isinstance(n, ast.Name)}
    tables = [
        node.value
        for node in module.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in inner
    ]
    texts = [node for table in tables for node in ast.walk(table)]
    return [node for node in texts if re.fullmatch(r"[A-Z][A-Z0-9_]*", _text(node))]


def _text(node: ast.AST) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def page(root: pathlib.Path = ROOT) -> str:
    """Return the page: a table for each distribution."""
    parts = [_HEAD]
    variables = described(root)
    for distribution in sorted({variable.distribution for variable in variables}):
        parts += [f"## {distribution}\n", "| variable | meaning |", "|---|---|"]
        parts += [
            f"| {'<br>'.join(f'`{name}`' for name in variable.names)} | {variable.text} |"
            for variable in sorted(variables)
            if variable.distribution == distribution
        ]
        parts.append("")
    return "\n".join(parts)


def write(app: Sphinx) -> None:
    """Write `reference/environment.md`."""
    target = pathlib.Path(app.srcdir) / "reference" / "environment.md"
    text = page()
    if not target.exists() or target.read_text(encoding="utf-8") != text:
        target.write_text(text, encoding="utf-8")
