"""The core knows nothing of mlflow, and whoever lacks it is told what to install."""

from __future__ import annotations

import subprocess
import sys


def test_the_core_never_imports_mlflow(tmp_path):
    program = (
        "import sys, pkgutil, importlib, ops.registry as r\n"
        "for m in pkgutil.iter_modules(r.__path__):\n"
        "    if m.name not in ('mlflow', 'ui', 'conformance', '__main__'):\n"
        "        importlib.import_module(f'ops.registry.{m.name}')\n"
        "context = r.init_mlops(backend_type='local', storage_path=sys.argv[1])\n"
        "e = context.experiment_tracker.create_experiment('e')\n"
        "with context.experiment_tracker.run_context(e.experiment_id) as run: pass\n"
        "assert not [m for m in sys.modules if m.split('.')[0] == 'mlflow']\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "store")], check=True)


def test_without_mlflow_the_message_says_what_to_install():
    program = (
        "import sys, importlib.util\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda n, *a: None if n == 'mlflow' else find(n, *a)\n"
        "try: import ops.registry.mlflow\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert "ops-registry[mlflow]" in done.stdout
