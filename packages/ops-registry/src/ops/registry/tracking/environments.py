"""What a run was made with: commit, command line, Python, platform and packages.

Nothing here may stop a training: without git, or outside of a repository, there is no commit. Command lines
hold tokens and passwords more often than one would like, so values of such options, and those in addresses, are
replaced by ``***``; variables of the environment are not looked at.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ops.foundation.files import StrPath

__all__ = ["captured", "command_line", "tags_of"]

_GIT_SECONDS = 10
_HIDDEN = "***"
_SECRET = re.compile(r"(token|passw|secret|credential|api-?_?key|auth)", re.IGNORECASE)
_IN_ADDRESS = re.compile(r"(?<=://)[^/@\s]+(?=@)")


def captured(directory: StrPath = ".") -> dict[str, Any]:
    """Return what there is to know; *directory* is in the git repository, if there is one."""
    return {
        "command_line": command_line(sys.argv),
        "directory": os.fspath(os.path.abspath(directory)),  # noqa: PTH100 - links stay
        "git": _git(directory),
        "host": platform.node(),
        "packages": _packages(),
        "platform": platform.platform(),
        "python": platform.python_version(),
    }


def tags_of(found: Mapping[str, Any]) -> dict[str, str]:
    """Return what of it are tags, to be searched for."""
    tags = {name: found[name] for name in ("host", "platform", "python")}
    tags["command_line"] = " ".join(found["command_line"])
    for name, value in found["git"].items():
        tags[f"git.{name}"] = str(value).lower() if isinstance(value, bool) else value
    return tags


def command_line(words: Sequence[str]) -> list[str]:
    """Return the words of a command without what looks like a secret."""
    found: list[str] = []
    hides_next = False
    for word in words:
        name, equals, _ = word.partition("=")
        is_option = name.startswith("-")
        if hides_next and not is_option:
            found.append(_HIDDEN)
        elif equals and _SECRET.search(name):
            found.append(f"{name}={_HIDDEN}")
        else:
            found.append(_IN_ADDRESS.sub(_HIDDEN, word))
        hides_next = is_option and not equals and _SECRET.search(name) is not None
    return found


def _git(directory: StrPath) -> dict[str, Any]:
    commit = _git_output(directory, "rev-parse", "HEAD")
    if not commit:
        return {}
    branch = _git_output(directory, "rev-parse", "--abbrev-ref", "HEAD")
    changes = _git_output(directory, "status", "--porcelain", "--untracked-files=no")
    found = {"commit": commit} | ({"branch": branch} if branch and branch != "HEAD" else {})
    return found | ({} if changes is None else {"dirty": bool(changes)})


def _git_output(directory: StrPath, *words: str) -> str | None:
    """Return what git prints, None when it is not there or refuses."""
    command = ["git", "-C", os.fspath(directory), *words]
    try:
        done = subprocess.run(  # noqa: S603 - words of this module, and a folder
            command, capture_output=True, text=True, timeout=_GIT_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout.strip()


def _packages() -> dict[str, str]:
    import importlib.metadata

    found: dict[str, str] = {}
    for one in importlib.metadata.distributions():
        name = one.metadata["Name"]
        if name:  # else what an interrupted installation left
            found.setdefault(name.lower(), one.version)
    return dict(sorted(found.items()))
