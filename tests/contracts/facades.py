"""The façades of the packages: one list of names for people and checkers, one table for run time.

A façade is an `__init__.py` whose `TYPE_CHECKING` block imports each public name under its own name
(`from ops.x.y import Name as Name`, the form that checkers take for a re-export). That block is the
list. The `else` branch, which checkers never read, holds the same names by module for
`ops.foundation.lazy.lazy_exports`; this module writes it:

    python -m tests.contracts.facades --fix
"""

from __future__ import annotations

import ast
import pathlib
import sys
import textwrap
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parents[2]
ELSE = """\
else:  # Written by `nox -s lint -- --fix` from the imports above.
    from ops.foundation.lazy import lazy_exports

"""


def facades(root: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yield every `__init__.py` below *root* that exports names lazily."""
    for file in sorted(root.glob("packages/*/src/**/__init__.py")):
        if "lazy_exports(" in file.read_text(encoding="utf-8"):
            yield file


def exported(source: str) -> dict[str, str]:
    """Return the module of each name that the façade *source* exports, by name."""
    return {
        alias.asname: node.module
        for block in ast.parse(source).body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in block.body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
        if alias.asname == alias.name
    }


def table(package: str, names: dict[str, str]) -> str:
    """Return the `else` branch of the façade of *package* as the formatter would write it."""
    homes: dict[str, list[str]] = {}
    for name, module in names.items():
        homes.setdefault(module.removeprefix(package), []).append(name)
    lines = ["    __all__, __getattr__, __dir__ = lazy_exports(", "        __name__,", "        {"]
    for module in sorted(homes):
        one = f'            "{module}": "{" ".join(sorted(homes[module]))}",'
        if len(one) <= 100:
            lines.append(one)
            continue
        lines.append(f'            "{module}": (')
        rows = textwrap.wrap(" ".join(sorted(homes[module])), 82)
        rows[:-1] = [f"{row} " for row in rows[:-1]]
        lines += [f'                "{text}"' for text in rows]
        lines.append("            ),")
    return ELSE + "\n".join([*lines, "        },", "    )", ""])


def rendered(file: pathlib.Path) -> str:
    """Return what the façade *file* should hold: its own text with the table written anew."""
    source = file.read_text(encoding="utf-8")
    parts = file.parent.parts
    package = ".".join(parts[parts.index("src") + 1 :])
    block = next(
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    lines = source.splitlines(keepends=True)
    before = "".join(lines[: block.body[-1].end_lineno])
    after = "".join(lines[block.end_lineno :])
    return before + table(package, exported(source)) + after


def stale(root: pathlib.Path) -> list[pathlib.Path]:
    """Return the façades whose table is not what their imports say."""
    return [f for f in facades(root) if f.read_text(encoding="utf-8") != rendered(f)]


def main() -> None:
    """Write every stale table with `--fix`, else name it and exit 1."""
    files = stale(ROOT)
    if "--fix" in sys.argv:
        for file in files:
            file.write_text(rendered(file), encoding="utf-8")
    elif files:
        names = "\n".join(f"  {file.relative_to(ROOT)}" for file in files)
        sys.exit(f"tables of lazy_exports are stale; run `nox -s lint -- --fix`:\n{names}")


if __name__ == "__main__":
    main()
