"""How the modules of ops.foundation hang together."""

import ast
import graphlib
from pathlib import Path

import ops.foundation

ROOT = Path(ops.foundation.__file__).parent


def imports_of(path: Path) -> set[str]:
    """Return the modules of ops.foundation that *path* imports at run time, also inside functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for statement in node.body
        for inner in ast.walk(statement)
    }
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node not in for_types and node.module:
            if node.module == "ops.foundation":
                found |= {f"ops.foundation.{alias.name}" for alias in node.names}
            elif node.module.startswith("ops.foundation."):
                found.add(node.module)
    return found


def test_no_module_imports_itself_in_a_circle():
    graph = {}
    for path in ROOT.rglob("*.py"):
        name = ".".join(("ops.foundation", *path.relative_to(ROOT).with_suffix("").parts))
        if path.name != "__init__.py":  # the façade imports all
            graph[name] = imports_of(path)
    assert len(graph) > 30
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError
