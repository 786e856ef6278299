"""What the documents tell to type can be typed: commands and options exist, and so do extras."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
import tomllib
from itertools import product

import pytest
from tests.examples.documented import ROOT, commands

OURS = r"(ops-[a-z-]+|python3? -m ops[a-z_.]*)( .*)?"


@functools.cache
def help_of(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *words, "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def as_module(words: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Return what runs the program, and the words after it."""
    if words[0].startswith("python"):
        return ["-m", words[2]], list(words[3:])
    module = words[0].removeprefix("ops-").replace("-", "_")
    return ["-m", "ops_suite" if module == "suite" else f"ops.{module}"], list(words[1:])


@pytest.mark.parametrize(("document", "words"), commands(OURS), ids=lambda v: str(v)[:60])
def test_a_command_and_its_options_exist(document: str, words: tuple[str, ...]) -> None:
    program, rest = as_module(words)
    subcommands = rest[0].split("|") if rest and re.fullmatch(r"[a-z|-]+", rest[0]) else [""]
    options = [word.split("=")[0] for word in rest if re.fullmatch(r"--?[a-z].*", word)]
    for name, option in product(subcommands, options or [""]):
        verbs = [name] if name else []
        shown = help_of(*program, *verbs)
        # A topic, such as `audit`, has verbs of its own.
        inner = rest[1] if rest[1:] and re.fullmatch(r"[a-z][a-z-]*", rest[1]) else ""
        if verbs and " VERB ..." in shown.stdout and inner in shown.stdout.split():
            shown = help_of(*program, *verbs, inner)
        assert shown.returncode == 0, f"{document}: {' '.join(words)}: {shown.stderr}"
        assert option in shown.stdout, f"{document}: {' '.join(words)}: no option {option}"


@pytest.mark.parametrize(
    ("document", "words"), commands(r"pip install .*"), ids=lambda v: str(v)[:60]
)
def test_what_is_to_be_installed_exists(document: str, words: tuple[str, ...]) -> None:
    for word in words[2:]:
        match = re.fullmatch(r"(ops-[a-z-]+)(?:\[(.*)\])?", word)
        if match:
            file = ROOT / "packages" / match[1] / "pyproject.toml"
            project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
            asked = set(match[2].split(",")) if match[2] else set()
            assert asked <= set(project.get("optional-dependencies", {})), document
