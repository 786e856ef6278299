"""What can be wrong with an installation, found without importing anything of it.

The namespace `ops` is shared: a regular package `ops` (the Juju charm framework on PyPI ships one)
owns the name when it is found first, and then hides editable installs of ours.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from dataclasses import dataclass

from ops_suite.versions import LIBRARIES, installed_versions, pinned_versions

__all__ = ["Finding", "diagnose"]

REMEDY = 'import ops, pkgutil; ops.__path__ = pkgutil.extend_path(ops.__path__, "ops")'


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `remedy` says what to do when it is not well."""

    what: str
    well: bool
    message: str
    remedy: str = ""


def diagnose() -> list[Finding]:
    """Look at Python, the namespace and every library; nothing of ours is imported."""
    return [_python(), _namespace(), *_libraries()]


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
    hidden = [name for name, module in LIBRARIES.items() if not _is_found(module)]
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
    tested, findings = pinned_versions(), []
    for name, version in installed_versions().items():
        if version is None:
            findings.append(Finding(name, False, "not installed", f"pip install {name}"))  # noqa: FBT003
        elif version != tested[name]:
            message = f"{version}; tested together with the others is {tested[name]}"
            findings.append(Finding(name, False, message, f"pip install {name}=={tested[name]}"))  # noqa: FBT003
        else:
            found = _is_found(LIBRARIES[name])
            remedy = "" if found else f"pip install --force-reinstall {name}"
            findings.append(Finding(name, found, version, remedy))
    return findings


def _is_found(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
