"""Reading a typed configuration, beside PyYAML with dacite."""

from __future__ import annotations

from dataclasses import dataclass, field

import dacite
import yaml
from benchmarks.harness import Case, Target

from ops.serialize import YamlConfig


@dataclass
class Layer:
    name: str
    size: int
    rate: float = 0.1


@dataclass
class Network(YamlConfig):
    name: str
    layers: list[Layer] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)


def cases():
    text = Network(
        "n", [Layer(f"l{i}", i) for i in range(50)], {f"k{i}": "v" for i in range(50)}
    ).to_yaml_text()
    yield Case(
        "read a configuration of 50 nested dataclasses",
        {
            "ops-serialize": lambda: Network.from_yaml_text(text),
            "PyYAML safe_load + dacite": lambda: dacite.from_dict(Network, yaml.safe_load(text)),
        },
        (Target("PyYAML safe_load + dacite", at_least=6),),
        rounds=9,
        packages=("pyyaml", "dacite"),
    )
