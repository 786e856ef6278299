"""Write the pins, the forwarded extras and constraints.txt of ops-suite from the tree: `nox -s pin`.

Pins and extras come from the packages' own metadata. The constraints are what uv resolves for the
suite with all its extras in the versions of requirements.lock: those that this version was tested with.
"""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys
import tomllib

HERE = pathlib.Path(__file__).parent
BEGIN, END = "# --- written by pin.py", "# --- end of what pin.py writes"
#: Too heavy, or not to be had everywhere, to be part of the tested set.
NOT_RESOLVED = {"registry-torch", "serialize-torch"}


def main() -> None:
    projects = [
        tomllib.loads(f.read_text(encoding="utf-8"))["project"]
        for f in sorted(HERE.parent.glob("*/pyproject.toml"))
    ]
    libraries = [p for p in projects if p["name"] != "ops-suite"]
    pins = "".join(f'    "{p["name"]}=={p["version"]}",\n' for p in libraries)
    extras = "".join(
        f'{p["name"].removeprefix("ops-")}-{extra} = ["{p["name"]}[{extra}]"]\n'
        for p in libraries
        for extra in p.get("optional-dependencies", {})
    )
    path = HERE / "pyproject.toml"
    text = path.read_text(encoding="utf-8")
    text = _replace(text, "pins", f"dependencies = [\n{pins}]\n")
    path.write_text(_replace(text, "extras", extras), encoding="utf-8")
    if "--offline" not in sys.argv:
        _write_constraints(libraries)


def _replace(text: str, section: str, body: str) -> str:
    begin, end = f"{BEGIN}: {section}\n", f"{END}: {section}\n"
    pattern = re.escape(begin) + ".*?" + re.escape(end)
    return re.sub(pattern, lambda _: begin + body + end, text, flags=re.DOTALL)


def _write_constraints(libraries: list[dict]) -> None:
    extras = [
        f"--extra={p['name'].removeprefix('ops-')}-{extra}"
        for p in libraries
        for extra in p.get("optional-dependencies", {})
        if f"{p['name'].removeprefix('ops-')}-{extra}" not in NOT_RESOLVED
    ]
    command = [
        *(
            sys.executable,
            "-m",
            "uv",
            "pip",
            "compile",
            "-q",
            "--universal",
            "--python-version=3.11",
        ),
        *("--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"),
        f"--constraint={HERE.parents[1] / 'requirements.lock'}",
        *("--extra=demo", *extras, str(HERE / "pyproject.toml")),
    ]
    compiled = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    third = [line for line in compiled.splitlines() if not re.match(r"(-e|\.|/|file:|ops-)", line)]
    ours = [f"{p['name']}=={p['version']}" for p in libraries]
    target = HERE / "src" / "ops_suite" / "constraints.txt"
    note = "# Versions that were tested together. Use: pip install -c constraints.txt ops-cache\n"
    target.write_text(note + "\n".join([*ours, *third]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
