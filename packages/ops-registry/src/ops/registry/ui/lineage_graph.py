"""The lineage of a model as a drawing: experiment, parent runs, run, version, and the stages and aliases it has.

Each kind has a column, what is older stands at the left. A node that several versions share is drawn once, in the middle of
them; nodes of a column that would overlap are moved down.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING
from urllib.parse import quote

from ops.registry.records import ModelStage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ops.registry.records import ModelVersion
    from ops.registry.ui.lineage import Origin

__all__ = ["MOST_VERSIONS", "Graph", "Node", "lineage_graph"]

#: More versions are no picture but a wall.
MOST_VERSIONS = 12
NODE_WIDTH, NODE_HEIGHT = 168, 26
_GAP, _ROW, _MARGIN = 46, 36, 8
_MOST_CHARACTERS = 22


@dataclasses.dataclass(slots=True)
class Node:
    """A box; *kind* is experiment, run, lost, version, stage or alias, *state* the word that gives it a colour.

    *href* is "" for what has no page.
    """

    kind: str
    label: str
    title: str
    href: str
    column: int
    state: str = ""
    x: float = 0.0
    y: float = 0.0

    @property
    def text(self) -> str:
        """The label as far as it fits into the box; what differs is at the end."""
        if len(self.label) <= _MOST_CHARACTERS:
            return self.label
        return f"{self.label[: _MOST_CHARACTERS - 11]}…{self.label[-10:]}"


@dataclasses.dataclass(frozen=True, slots=True)
class Graph:
    """What is drawn: *edges* are paths of SVG; *left_out* versions are older than those that are shown."""

    nodes: Sequence[Node]
    edges: Sequence[str]
    width: float
    height: float
    left_out: int


def lineage_graph(versions: Sequence[ModelVersion], origins: Mapping[int, Origin]) -> Graph:
    """Return the lineage of the newest of *versions*, oldest first; *origins* are by the number of a version."""
    shown = versions[-MOST_VERSIONS:][::-1]
    deepest = max((len(_runs(origins[v.version])) for v in shown), default=0)
    nodes: dict[tuple[str, str], Node] = {}
    edges: dict[tuple[tuple[str, str], tuple[str, str]], None] = {}
    for version in shown:
        before = _chain(origins[version.version], deepest)
        here = _version(version, deepest + 1)
        labels = list(_labels(version, deepest + 2))
        for node in (*before, here, *labels):
            nodes.setdefault(_key(node), node)
        chain = [*before, here]
        edges |= dict.fromkeys((_key(a), _key(b)) for a, b in itertools.pairwise(chain))
        edges |= dict.fromkeys((_key(here), _key(label)) for label in labels)
    _arrange(nodes, edges)
    width = max((node.x for node in nodes.values()), default=0) + NODE_WIDTH + _MARGIN
    height = max((node.y for node in nodes.values()), default=0) + NODE_HEIGHT + _MARGIN
    paths = [_path(nodes[a], nodes[b]) for a, b in edges]
    return Graph(list(nodes.values()), paths, width, height, len(versions) - len(shown))


def _runs(origin: Origin) -> list[Node]:
    """Return the runs from the outermost on, one that is not in the store at first."""
    lost = origin.lost
    found = [] if lost is None else [Node("lost", lost, f"run {lost}: not in this store", "", 0)]
    for run in origin.runs:
        name, status = run.name or run.run_id, str(run.status)
        title = f"run {name} ({status})"
        found.append(Node("run", name, title, f"/runs/{run.run_id}", 0, status))
    return found


def _chain(origin: Origin, deepest: int) -> list[Node]:
    """Return what comes before a version: an experiment, then runs, the one that made the version next to it."""
    runs = _runs(origin)
    for number, node in enumerate(runs):
        node.column = deepest - len(runs) + 1 + number
    if origin.experiment is None:
        return runs
    name = origin.experiment.name
    address = f"/experiments/{quote(origin.experiment.experiment_id, safe='')}"
    return [Node("experiment", name, f"experiment {name}", address, 0), *runs]


def _version(version: ModelVersion, column: int) -> Node:
    label = f"version {version.version}"
    return Node("version", label, label, f"#v{version.version}", column, str(version.stage))


def _labels(version: ModelVersion, column: int) -> Iterable[Node]:
    if version.stage != ModelStage.NONE:
        stage = str(version.stage)
        # Each version has a node of its own: several may be archived.
        title = f"stage {stage} of version {version.version}"
        yield Node("stage", stage, title, "", column, stage)
    for alias in version.aliases:
        yield Node("alias", f"@{alias}", f"alias {alias}", "", column)


def _key(node: Node) -> tuple[str, str]:
    return node.kind, node.href or node.title


def _arrange(
    nodes: Mapping[tuple[str, str], Node],
    edges: Iterable[tuple[tuple[str, str], tuple[str, str]]],
) -> None:
    """Give each node its coordinates, column by column from the right, where the labels are in rows."""
    after: dict[tuple[str, str], list[Node]] = {}
    for a, b in edges:
        after.setdefault(a, []).append(nodes[b])
    columns: dict[int, list[tuple[str, str]]] = {}
    for key, node in nodes.items():
        columns.setdefault(node.column, []).append(key)
    used = sorted(columns)
    rows = {column: number for number, column in enumerate(used)}  # empty columns have no width
    for column in reversed(used):
        lowest = float(_MARGIN)
        middles = {key: _middle(after.get(key, [])) for key in columns[column]}
        if all(after.get(key) for key in middles):  # else versions, which stay newest first
            middles = dict(sorted(middles.items(), key=lambda pair: pair[1]))
        for key, middle in middles.items():
            node = nodes[key]
            node.x = _MARGIN + rows[column] * (NODE_WIDTH + _GAP)
            node.y = max(lowest, middle)
            lowest = node.y + _ROW


def _middle(nodes: Sequence[Node]) -> float:
    return sum(node.y for node in nodes) / len(nodes) if nodes else 0.0


def _path(a: Node, b: Node) -> str:
    x, y = a.x + NODE_WIDTH, a.y + NODE_HEIGHT / 2
    end_x, end_y = b.x, b.y + NODE_HEIGHT / 2
    bend = (end_x - x) / 2
    return f"M{x:.1f},{y:.1f} C{x + bend:.1f},{y:.1f} {end_x - bend:.1f},{end_y:.1f} {end_x:.1f},{end_y:.1f}"
