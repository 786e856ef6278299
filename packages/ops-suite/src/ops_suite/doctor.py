"""What can be wrong with an installation, found without importing anything of it.

The namespace `ops` is shared: a regular package `ops` (the Juju charm framework on PyPI ships one)
owns the name when it is found first, and then hides editable installs of ours.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import sys
from dataclasses import dataclass

from ops_suite.versions import LIBRARIES, installed_versions, pinned_versions

__all__ = ["Finding", "diagnose"]

REMEDY = 'import ops, pkgutil; ops.__path__ = pkgutil.extend_path(ops.__path__, "ops")'
_NAME = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was examined; `remedy` is what to do when it is not `well`.

    For a library, `installed` and `pinned` are versions (None: not installed) and `importable` is
    whether Python finds its module; for anything else they are None.
    """

    what: str
    well: bool
    message: str
    remedy: str = ""
    installed: str | None = None
    pinned: str | None = None
    importable: bool | None = None


def diagnose() -> list[Finding]:
    """Examine Python, the namespace, every library and what they require; nothing of ours is imported."""
    return [_python(), _namespace(), *_libraries(), *_dependencies()]


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    well = sys.version_info >= (3, 11)
    return Finding("Python", well, version, "" if well else "Use Python 3.11 or newer.")


def _namespace() -> Finding:
    spec = importlib.util.find_spec("ops")
    if spec is None:
        return Finding("namespace ops", False, "absent", "pip install ops-suite")  # noqa: FBT003
    if spec.origin is None:
        return Finding("namespace ops", True, "shared, as it should be")  # noqa: FBT003
    # What is not installed is not hidden; its own finding reports it.
    hidden = [
        name
        for name, version in installed_versions().items()
        if version is not None and not _is_found(LIBRARIES[name])
    ]
    owners = [
        dist.name
        for dist in importlib.metadata.distributions()
        if any(str(file) == "ops/__init__.py" for file in dist.files or ())
    ]
    message = f"owned by {spec.origin} ({', '.join(owners) or 'no distribution'})"
    if not hidden:
        return Finding("namespace ops", True, f"{message}; ours are found beside it")  # noqa: FBT003
    return Finding(
        "namespace ops",
        False,  # noqa: FBT003
        f"{message}; it hides {', '.join(hidden)}",
        f"Uninstall its owner, install wheels instead of editables, or run first: {REMEDY}",
    )


def _libraries() -> list[Finding]:
    tested = pinned_versions()
    return [_library(name, version, tested[name]) for name, version in installed_versions().items()]


def _library(name: str, version: str | None, pinned: str) -> Finding:
    importable = _is_found(LIBRARIES[name])
    if version is None:
        message, remedy = "not installed", f"pip install {name}=={pinned}"
    elif version != pinned:
        message = f"{version}; tested together with the others is {pinned}"
        remedy = f"pip install {name}=={pinned}"
    elif not importable:
        message, remedy = f"{version}, not importable", f"pip install --force-reinstall {name}"
    else:
        message, remedy = version, ""
    return Finding(name, not remedy, message, remedy, version, pinned, importable)


def _dependencies() -> list[Finding]:
    """Report what a library requires and does not find; its siblings have findings of their own."""
    wanted: dict[str, list[str]] = {}
    for name, version in installed_versions().items():
        for requirement in (version and importlib.metadata.requires(name)) or ():
            match = _NAME.match(requirement)
            if match and match[0] not in LIBRARIES and ";" not in requirement:
                wanted.setdefault(requirement, []).append(name)
    return [
        Finding(
            _NAME.findall(requirement)[0],
            False,  # noqa: FBT003
            f"not installed, and required by {', '.join(names)}",
            f'pip install "{requirement}"',
        )
        for requirement, names in sorted(wanted.items())
        if not _is_installed(_NAME.findall(requirement)[0])
    ]


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _is_found(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
