"""`import ops.x` is cheap: it loads nothing but the standard library, itself and the foundation."""

from __future__ import annotations

import json
import pathlib
import resource
import subprocess
import sys

import pytest
from tests.contracts import guards

ROOT = pathlib.Path(__file__).parents[2]
MODULES = sorted(f"ops.{d.module}" for d in guards.libraries(ROOT))
#: How many times the CPU of a bare interpreter a program may take that only imports the module
#: (`import typing` alone makes 1.8 of it). Both are measured in turn, so that load falls on both.
BUDGET = dict.fromkeys(MODULES, 4) | {"ops.foundation": 3}

LOADED = "import sys; old = set(sys.modules); import {0}; import json; print(json.dumps(sorted(set(sys.modules) - old)))"


@pytest.mark.parametrize("module", MODULES)
def test_an_import_loads_no_third_party_module(module: str) -> None:
    loaded = subprocess.check_output([sys.executable, "-c", LOADED.format(module)], text=True)
    strangers = {
        name
        for name in json.loads(loaded)
        if name.split(".")[0] not in sys.stdlib_module_names
        and name != "ops"
        and not name.startswith((module, "ops.foundation"))
    }
    assert strangers == set()


@pytest.mark.parametrize("module", MODULES)
def test_an_import_stays_within_its_cpu_budget(module: str) -> None:
    pairs = [(cpu_ms(""), cpu_ms(f"import {module}")) for _ in range(9)]
    bare, importing = (min(each) for each in zip(*pairs, strict=True))
    assert importing <= BUDGET[module] * bare


def cpu_ms(program: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", program], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
