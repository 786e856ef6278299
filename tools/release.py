"""Releases of one distribution: what refuses one, what is built, and what it is checked against.

A distribution is checked against its siblings *as they were last released*, not as they stand in the
tree: a lower bound that was forgotten when something new of a sibling was used fails there, before
users meet it. Nothing here uploads; the workflow does, after the tag.

Usage::

  python tools/release.py check ops-cache           name what stands against a release
  python tools/release.py build ops-cache OUT       sdist (with tests and changelog) and wheel
  python tools/release.py published ops-cache OUT   wheels: ours from the tree, siblings from their tags
  python tools/release.py notes ops-cache           the section of its version in CHANGELOG.md
"""

from __future__ import annotations

import argparse
import difflib
import io
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]
SUITE = "ops-suite"


class Refused(Exception):  # noqa: N818 - a sentence for the person who releases
    """A release cannot be; the message has the reason and the remedy."""


def metadata(root: pathlib.Path, name: str) -> dict[str, Any]:
    """Return the `project` table of the distribution *name*."""
    known = {f.parent.name for f in root.glob("packages/*/pyproject.toml")}
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.3)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise Refused(f"{name!r} is no distribution of this repository{hint}")
    text = (root / "packages" / name / "pyproject.toml").read_text(encoding="utf-8")
    project: dict[str, Any] = tomllib.loads(text)["project"]
    return project


def refusals(root: pathlib.Path, name: str) -> list[str]:
    """Return what stands against a release of *name*, each as a sentence; none when it may be."""
    version = metadata(root, name)["version"]
    faults = []
    branch = _git(root, "rev-parse", "--abbrev-ref", "HEAD")
    if branch != "main":
        faults.append(f"releases are made from main, and this is {branch}")
    if _git(root, "status", "--porcelain"):
        faults.append("the working tree has uncommitted changes")
    if _git(root, "tag", "--list", f"{name}-v{version}"):
        faults.append(f"{name}-v{version} is released already; bump its version")
    heading, _ = _section(root, name)
    if not heading:
        faults.append(f"CHANGELOG.md of {name} has no section '## {version}'")
    elif "unreleased" in heading.lower():
        faults.append(
            f"CHANGELOG.md of {name} calls {version} unreleased; give it the date of today"
        )
    return faults


def notes(root: pathlib.Path, name: str) -> str:
    """Return the section of CHANGELOG.md that describes the version of *name* in the tree."""
    return _section(root, name)[1]


def _section(root: pathlib.Path, name: str) -> tuple[str, str]:
    """Return the heading and the body of the version's section, empty when there is none."""
    version = metadata(root, name)["version"]
    text = (root / "packages" / name / "CHANGELOG.md").read_text(encoding="utf-8")
    found = re.search(
        rf"^(## {re.escape(version)}(?:[ \t][^\n]*)?)\n(.*?)(?=^## |\Z)",
        text,
        flags=re.MULTILINE | re.DOTALL,
    )
    return (found[1], found[2].strip()) if found else ("", "")


def build(root: pathlib.Path, name: str, out: pathlib.Path) -> list[pathlib.Path]:
    """Build sdist and wheel of *name* into *out*; the sdist has the tests, to be run where it is packaged."""
    metadata(root, name)
    tests = root / "tests" / name.removeprefix("ops-").replace("-", "_")
    before = set(out.glob("*"))
    with tempfile.TemporaryDirectory() as folder:
        stage = pathlib.Path(folder, name)
        leave = shutil.ignore_patterns("__pycache__", "*.egg-info", "dist")
        shutil.copytree(root / "packages" / name, stage, ignore=leave)
        shutil.copytree(tests, stage / "tests" / tests.name, ignore=leave)
        for shared in (root / "tests").glob("*.py"):
            shutil.copy(shared, stage / "tests")
        with (stage / "pyproject.toml").open("a", encoding="utf-8") as file:
            file.write("\n" + _pytest_table(root))
        _uv(root, "build", str(stage), "-o", str(out.absolute()))
    return sorted({*out.glob("*.whl"), *out.glob("*.tar.gz")} - before)


def _pytest_table(root: pathlib.Path) -> str:
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    found = re.search(
        r"^\[tool\.pytest\.ini_options\]\n.*?(?=^\[)", text, flags=re.MULTILINE | re.DOTALL
    )
    return found[0] if found else ""


def published(root: pathlib.Path, name: str, out: pathlib.Path) -> list[pathlib.Path]:
    """Build *name* from the tree and the siblings that it requires from their last tags, into *out*."""
    from packaging.requirements import Requirement

    _uv(root, "build", "--wheel", str(root / "packages" / name), "-o", str(out.absolute()))
    waiting, done = [name], {name}
    while waiting:
        for text in metadata(root, waiting.pop()).get("dependencies", []):
            requirement = Requirement(text)
            sibling = requirement.name
            if not (root / "packages" / sibling / "pyproject.toml").exists() or sibling in done:
                continue
            version = _last_release(root, sibling)
            if not requirement.specifier.contains(version, prereleases=True):
                raise Refused(f"{name} needs {text}, and {sibling} was last released as {version}")
            _build_tag(root, sibling, version, out)
            done.add(sibling)
            waiting.append(sibling)
    return sorted(out.glob("*.whl"))


def _last_release(root: pathlib.Path, name: str) -> str:
    tags = _git(root, "tag", "--list", f"{name}-v*", "--sort=-version:refname").splitlines()
    if not tags:
        raise Refused(f"{name} was never released; release it before what requires it")
    return tags[0].removeprefix(f"{name}-v")


def _build_tag(root: pathlib.Path, name: str, version: str, out: pathlib.Path) -> None:
    command = ["git", "archive", "--format=tar", f"{name}-v{version}", f"packages/{name}"]
    archive = subprocess.run(command, cwd=root, check=True, capture_output=True).stdout
    with tempfile.TemporaryDirectory() as folder, tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
        source = str(pathlib.Path(folder, "packages", name))
        _uv(root, "build", "--wheel", source, "-o", str(out.absolute()))


def _git(root: pathlib.Path, *arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(
        command, cwd=root, check=True, capture_output=True, text=True
    ).stdout.strip()


def _uv(root: pathlib.Path, *arguments: str) -> None:
    sys.path.insert(0, str(ROOT))
    from tools.lock import LOCK, uv

    lock = ["--build-constraint", str(root / LOCK)]
    subprocess.run([uv(), *arguments, "-q", *lock], cwd=root, check=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return 1 with a sentence on stderr when a release is refused."""
    parser = argparse.ArgumentParser(prog="python tools/release.py")
    parser.add_argument("command", choices=["check", "build", "published", "notes"])
    parser.add_argument("name", help="a distribution, such as ops-cache")
    parser.add_argument("out", nargs="?", type=pathlib.Path, default=ROOT / "dist")
    options = parser.parse_args(arguments)
    try:
        if options.command == "check":
            _check(options.name)
        elif options.command == "notes":
            print(notes(ROOT, options.name))
        else:
            make = build if options.command == "build" else published
            print(*make(ROOT, options.name, options.out), sep="\n")
    except Refused as error:
        print(f"no release of {options.name}: {error}.", file=sys.stderr)
        return 1
    return 0


def _check(name: str) -> None:
    faults = refusals(ROOT, name)
    if faults:
        raise Refused("; ".join(faults))


if __name__ == "__main__":
    sys.exit(main())
