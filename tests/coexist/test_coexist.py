"""Our wheels and the PyPI distribution `ops`, which owns ops/__init__.py, in one environment."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import pytest

from ops_suite.versions import LIBRARIES


def test_the_other_ops_is_really_there_and_works() -> None:
    import ops

    assert ops.__file__ is not None
    assert ops.CharmBase.__module__.startswith("ops.")


@pytest.mark.parametrize("module", LIBRARIES.values())
def test_our_package_is_found_inside_it(module: str) -> None:
    package = importlib.import_module(module)
    assert package.__all__


def test_the_doctor_says_who_owns_the_name_and_that_all_is_well() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "ops_suite", "doctor", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    (namespace,) = [f for f in json.loads(result.stdout) if f["what"] == "namespace ops"]
    assert namespace["well"]
    assert "owned by" in namespace["message"]
    assert "(ops)" in namespace["message"]
