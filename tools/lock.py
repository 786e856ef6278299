"""The lock: one version, with the hashes of its files, of everything that the default sessions install.

`requirements.lock` is what `uv pip compile --universal` resolves for the requirements of this tree: those
of the packages, of their test groups, of the groups of the root and of the build backend. It names no
index and no host, so it holds with any mirror. Sessions install with the lock as constraints: uv checks
each file that it fetches against the hashes, and `verify` then refuses an environment that holds
anything the lock does not name. The packages' own ranges stay open; `nox -s latest` tries what is new.

Usage::

  python tools/lock.py write [--upgrade]  add what is missing (or move everything to its newest version)
  python tools/lock.py check              name the requirements that the lock does not satisfy
  python tools/lock.py verify             name what is installed here beside the lock
"""

from __future__ import annotations

import argparse
import importlib.metadata
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]
LOCK = "requirements.lock"
NOTE = "# Written by `nox -s lock`: what the default sessions install. See tools/lock.py.\n"
PINNED = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", flags=re.MULTILINE)


def requirements(root: pathlib.Path = ROOT) -> list[str]:
    """Return every third-party requirement of the default sessions, extras of ours unfolded."""
    workspace = _toml(root)
    packages = {_toml(f.parent)["project"]["name"]: _toml(f.parent) for f in _metadata(root)}
    wanted = {text for group in workspace["dependency-groups"].values() for text in group}
    for package in packages.values():
        wanted |= set(package["project"].get("dependencies", []))
        wanted |= set(package.get("dependency-groups", {}).get("test", []))
        wanted |= set(package["build-system"]["requires"])
    third: set[str] = set()
    seen: set[str] = set()
    while wanted:
        text = wanted.pop()
        name, extras = _name_and_extras(text)
        if name not in packages:
            third.add(text)
        elif text not in seen:
            seen.add(text)
            optional = packages[name]["project"].get("optional-dependencies", {})
            wanted |= {inner for extra in extras for inner in optional[extra]}
    return sorted(third)


def locked(root: pathlib.Path = ROOT) -> dict[str, set[str]]:
    """Return the versions of each name in the lock; more than one where they depend on the Python."""
    found: dict[str, set[str]] = {}
    for name, version in PINNED.findall((root / LOCK).read_text(encoding="utf-8")):
        found.setdefault(_canonical(name), set()).add(version)
    return found


def unsatisfied(root: pathlib.Path = ROOT) -> list[str]:
    """Return the requirements of the tree for which the lock has no version, or one they exclude."""
    from packaging.requirements import Requirement

    versions = locked(root)
    missing = []
    for text in requirements(root):
        requirement = Requirement(text)
        candidates = versions.get(_canonical(requirement.name), set())
        if not any(requirement.specifier.contains(v, prereleases=True) for v in candidates):
            missing.append(text)
    return missing


def strangers(root: pathlib.Path = ROOT) -> list[str]:
    """Return what is installed for the running interpreter in a version that the lock does not name."""
    versions = locked(root)
    ours = {_canonical(_toml(f.parent)["project"]["name"]) for f in _metadata(root)}
    found = {
        (_canonical(dist.name), dist.version)
        for dist in importlib.metadata.distributions()
        if _canonical(dist.name) not in ours
    }
    return sorted(f"{n}=={v}" for n, v in found if v not in versions.get(n, set()))


def write(root: pathlib.Path = ROOT, *, upgrade: bool = False) -> None:
    """Resolve the tree's requirements into the lock, keeping its versions unless *upgrade*."""
    target = root / LOCK
    with tempfile.TemporaryDirectory() as folder:
        source, output = pathlib.Path(folder, "requirements.in"), pathlib.Path(folder, LOCK)
        source.write_text("\n".join(requirements(root)), encoding="utf-8")
        if target.exists() and not upgrade:
            shutil.copy(target, output)  # uv keeps the versions that its output file already has
        options = ["--universal", "--python-version=3.11", "--generate-hashes", "--no-header"]
        options += ["--no-annotate", "--no-emit-index-url", "--no-emit-find-links", "--quiet"]
        command = [uv(), "pip", "compile", *options, str(source), "-o", str(output)]
        # Standard output repeats the file.
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL)
        target.write_text(NOTE + output.read_text(encoding="utf-8"), encoding="utf-8")


def uv() -> str:
    """Return the uv beside the running interpreter, else the one on the PATH."""
    beside = pathlib.Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        sys.exit('uv is needed and was not found; install it with: python -m pip install "nox[uv]"')
    return found


def _metadata(root: pathlib.Path) -> list[pathlib.Path]:
    return sorted(root.glob("packages/*/pyproject.toml"))


def _toml(folder: pathlib.Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))


def _name_and_extras(requirement: str) -> tuple[str, list[str]]:
    match = re.match(r"([A-Za-z0-9._-]+)\s*(?:\[([^\]]*)\])?", requirement)
    if match is None:
        raise ValueError(f"not a requirement: {requirement!r}")
    return match[1], [extra.strip() for extra in (match[2] or "").split(",") if extra.strip()]


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> int:
    """Run the command line; return 1 when the lock or the environment is not as it should be."""
    parser = argparse.ArgumentParser(prog="python tools/lock.py")
    parser.add_argument("command", choices=["write", "check", "verify"])
    parser.add_argument("--upgrade", action="store_true", help="move to the newest versions")
    options = parser.parse_args()
    if options.command == "write":
        write(upgrade=options.upgrade)
        return 0
    if options.command == "check":
        faults, remedy = unsatisfied(), f"are not satisfied by {LOCK}; run: nox -s lock"
    else:
        faults, remedy = strangers(), f"are installed and not in {LOCK}; run: nox -s lock"
    if faults:
        print(f"{', '.join(faults)} {remedy}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
