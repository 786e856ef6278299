"""What every distribution promises, as functions over a tree; each returns the faults it found.

They take the root of a tree, so that the tests can run each on this repository (no faults) and on
a copy with a fault planted in it (exactly that fault).
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import pathlib
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tests.contracts import facades

SUITE = "ops-suite"
#: Names below ops/ that the PyPI distribution "ops" (the Juju charm framework, 3.9.0) owns.
TAKEN = frozenset(
    [
        "charm",
        "framework",
        "hookcmds",
        "jujucontext",
        "jujuversion",
        "lib",
        "log",
        "main",
        "model",
        "pebble",
        "storage",
        "testing",
        "tracing",
        "version",
        "_main",
        "_private",
    ]
)


@dataclasses.dataclass(frozen=True)
class Distribution:
    """One folder of packages/ as its pyproject.toml tells it."""

    folder: pathlib.Path
    project: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.project["name"])

    @property
    def module(self) -> str:
        return self.name.removeprefix("ops-").replace("-", "_")

    @property
    def portion(self) -> pathlib.Path:
        return self.folder / "src" / "ops" / self.module

    def hard(self) -> list[Requirement]:
        return [Requirement(text) for text in self.project.get("dependencies", [])]

    def optional(self) -> list[Requirement]:
        extras = self.project.get("optional-dependencies", {})
        return [Requirement(text) for extra in extras.values() for text in extra]


def distributions(root: pathlib.Path) -> dict[str, Distribution]:
    found = {}
    for file in sorted(root.glob("packages/*/pyproject.toml")):
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        found[project["name"]] = Distribution(file.parent, project)
    return found


def libraries(root: pathlib.Path) -> list[Distribution]:
    return [d for name, d in distributions(root).items() if name != SUITE]


def stray_namespace_files(root: pathlib.Path) -> list[str]:
    """One `ops/__init__.py` anywhere makes every sibling vanish."""
    files = root.glob("packages/*/src/ops/__init__.py*")
    return [f"{f.relative_to(root)} breaks the namespace" for f in files]


def wrong_portions(root: pathlib.Path) -> list[str]:
    """A distribution owns exactly one typed import package, under a name that nobody else owns."""
    faults = []
    for dist in libraries(root):
        namespace = dist.folder / "src" / "ops"
        children = {
            p.name for p in namespace.iterdir() if p.name not in {"__pycache__", "__init__.py"}
        }
        if children != {dist.module}:
            faults.append(f"{dist.name} ships {sorted(children)}, not only {dist.module!r}")
        if not (dist.portion / "py.typed").is_file():
            faults.append(f"{dist.name} has no py.typed")
        if dist.module in TAKEN:
            faults.append(
                f"{dist.name}: the name ops.{dist.module} belongs to another distribution"
            )
    return faults


def missing_papers(root: pathlib.Path) -> list[str]:
    """Each distribution carries its own README, CHANGELOG and licence, and its version's section."""
    faults = []
    for dist in distributions(root).values():
        faults += [
            f"{dist.name} has no {paper}"
            for paper in ("README.md", "CHANGELOG.md", "LICENSE")
            if not (dist.folder / paper).is_file()
        ]
        changelog = dist.folder / "CHANGELOG.md"
        version = dist.project["version"]
        if changelog.is_file() and f"## {version}" not in changelog.read_text(encoding="utf-8"):
            faults.append(f"{dist.name}: CHANGELOG.md does not mention {version}")
    return faults


def imported_modules(folder: pathlib.Path, *, at_run_time: bool = False) -> set[str]:
    """Return the dotted names of all absolute imports below *folder*.

    *at_run_time* leaves out what only type checkers see.
    """
    found: set[str] = set()
    for file in folder.rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        hidden = set(_typing_only(tree)) if at_run_time else set()
        for node in ast.walk(tree):
            if node in hidden:
                continue
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = {f"ops.{alias.name}" for alias in node.names}
                found |= names if node.module == "ops" else {node.module}
    return found


def _typing_only(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for statement in node.body:
                yield from ast.walk(statement)


def undeclared_siblings(root: pathlib.Path) -> list[str]:
    """What a distribution imports of the suite, it requires; what it requires, it imports."""
    faults = []
    for dist in libraries(root):
        used = {
            f"ops-{name.split('.')[1].replace('_', '-')}"
            for name in imported_modules(dist.portion)
            if name.startswith("ops.")
        } - {dist.name}
        declared = {r.name for r in dist.hard() if r.name.startswith("ops-")}
        faults += [f"{dist.name} imports {n} and does not require it" for n in used - declared]
        faults += [f"{dist.name} requires {n} and never imports it" for n in declared - used]
    return faults


def undeclared_third_parties(root: pathlib.Path) -> list[str]:
    """Every third-party module that is imported belongs to a dependency or to an extra."""
    faults = []
    for dist in libraries(root):
        requirements = {canonicalize_name(r.name) for r in (*dist.hard(), *dist.optional())}
        used = imported_modules(dist.portion, at_run_time=True)
        for name in sorted({m.split(".")[0] for m in used}):
            if name in sys.stdlib_module_names or name in {"ops", "__future__"}:
                continue
            owners = {canonicalize_name(o) for o in _owners().get(name, [name])}
            if not owners & requirements:
                faults.append(f"{dist.name} imports {name} and declares none of {sorted(owners)}")
    return faults


@functools.cache
def _owners() -> dict[str, list[str]]:
    return dict(packages_distributions())


def refused_siblings(root: pathlib.Path) -> list[str]:
    """A range on a sibling admits the sibling's version in this very tree, and has an upper bound."""
    tree = distributions(root)
    faults = []
    for dist in tree.values():
        for requirement in (*dist.hard(), *dist.optional()):
            if requirement.name not in tree or not str(requirement.specifier):
                continue
            version = tree[requirement.name].project["version"]
            if not requirement.specifier.contains(version, prereleases=True):
                faults.append(f"{dist.name} requires {requirement}, the tree has {version}")
            if not any(s.operator in {"<", "=="} for s in requirement.specifier):
                faults.append(f"{dist.name} requires {requirement} without an upper bound")
    return faults


def wrong_pins(root: pathlib.Path) -> list[str]:
    """The meta-package pins every library to exactly the version in the tree."""
    tree = distributions(root)
    pins = {r.name: str(r.specifier) for r in tree[SUITE].hard()}
    wanted = {d.name: f"=={d.project['version']}" for d in libraries(root)}
    return [
        f"{SUITE} pins {name} {pins.get(name, 'not at all')}, the tree has {wanted.get(name)}"
        for name in sorted(pins.keys() | wanted.keys())
        if pins.get(name) != wanted.get(name)
    ]


def unforwarded_extras(root: pathlib.Path) -> list[str]:
    """The meta-package offers every extra of a library as `<library>-<extra>`."""
    tree = distributions(root)
    offered = tree[SUITE].project.get("optional-dependencies", {})
    faults = []
    for dist in libraries(root):
        short = dist.name.removeprefix("ops-")
        for extra in dist.project.get("optional-dependencies", {}):
            wanted = [f"{dist.name}[{extra}]"]
            if offered.get(f"{short}-{extra}") != wanted:
                faults.append(f"{SUITE} lacks the extra {short}-{extra} = {wanted}")
    return faults


def unlayered_packages(root: pathlib.Path) -> list[str]:
    """The layers of import-linter name every import package, so that none escapes the check."""
    config = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    linter = config["tool"]["importlinter"]
    (contract,) = (c for c in linter["contracts"] if c["id"] == "floors")
    layered = {name for layer in contract["layers"] for name in re.split(r"\s*[|:]\s*", layer)}
    tree = {f"ops.{d.module}" for d in libraries(root)} | {"ops_suite"}
    return [
        f"{name} is not in {where}"
        for where, names in (("layers", layered), ("root_packages", set(linter["root_packages"])))
        for name in sorted(tree - names)
    ]


def disagreeing_facades(root: pathlib.Path) -> list[str]:
    """The table of `lazy_exports` holds the names that the `TYPE_CHECKING` imports list."""
    return [
        f"{file.relative_to(root)}: its table of lazy_exports is stale; run `nox -s lint -- --fix`"
        for file in facades.stale(root)
    ]


def names_hidden_by_modules(root: pathlib.Path) -> list[str]:
    """No public name is also a module's: importing the module would put itself in its place."""
    return [
        f"{dist.name}: {name!r} is both exported and a module"
        for dist in libraries(root)
        for name in facades.exported((dist.portion / "__init__.py").read_text("utf-8"))
        if (dist.portion / f"{name}.py").exists() or (dist.portion / name).is_dir()
    ]


def unpromised_imports(root: pathlib.Path) -> list[str]:
    """What one distribution takes of another is in that module's `__all__`: it is promised.

    They are versioned apart, so whatever else a module has may go with its next version.
    """
    modules = {}
    for dist in libraries(root):
        for file in dist.portion.rglob("*.py"):
            parts = ("ops", dist.module, *file.relative_to(dist.portion).with_suffix("").parts)
            name = ".".join(parts).removesuffix(".__init__")
            modules[name] = dist, file.read_text(encoding="utf-8")
    faults = []
    for user, (dist, source) in modules.items():
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.ImportFrom) or node.module not in modules:
                continue
            owner, home = modules[node.module]
            if owner is dist:
                continue
            promised = {*_literal_all(ast.parse(home).body), *facades.exported(home)}
            faults += [
                f"{user} imports {alias.name}, which {node.module} does not promise"
                for alias in node.names
                if alias.name not in promised and f"{node.module}.{alias.name}" not in modules
            ]
    return faults


def _literal_all(body: list[ast.stmt]) -> list[str]:
    for node in body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return []


def imports_that_no_extra_brings(root: pathlib.Path) -> list[str]:
    """What an example of a README imports, the distribution or one of its extras installs."""
    faults = []
    for dist in libraries(root):
        text = (dist.folder / "README.md").read_text(encoding="utf-8")
        blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
        brought = {canonicalize_name(r.name) for r in (*dist.hard(), *dist.optional())}
        for block in blocks:
            for name in sorted(_top_level_imports(block)):
                owners = {canonicalize_name(o) for o in _owners().get(name, [name])}
                if name not in sys.stdlib_module_names and name != "ops" and not owners & brought:
                    faults.append(f"{dist.name}: an example imports {name}, which no extra brings")
    return faults


def _top_level_imports(source: str) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


ALL = (
    stray_namespace_files,
    wrong_portions,
    missing_papers,
    undeclared_siblings,
    undeclared_third_parties,
    refused_siblings,
    wrong_pins,
    unforwarded_extras,
    unlayered_packages,
    disagreeing_facades,
    names_hidden_by_modules,
    unpromised_imports,
    imports_that_no_extra_brings,
)
