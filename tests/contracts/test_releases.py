"""A release is refused with a sentence until all is right, and what is built is whole.

The whole flow runs on a clone of this repository: checks, build, `twine check`, installation.
"""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable

import pytest
from tests.contracts import guards
from tools import release

ROOT = pathlib.Path(__file__).parents[2]
LIBRARIES = sorted(dist.name for dist in guards.libraries(ROOT))


def git(root: pathlib.Path, *arguments: str) -> None:
    who = ["-c", "user.name=tests", "-c", "user.email=tests@example.org"]
    subprocess.run(["git", *who, *arguments], cwd=root, check=True, capture_output=True)


def edit(root: pathlib.Path, file: str, old: str, new: str) -> None:
    path = root / file
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{file} no longer has {old!r}: mend this test"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.fixture
def clone(tmp_path: pathlib.Path) -> pathlib.Path:
    """This tree as a repository of its own, on main, committed, with dated changelogs."""
    root = tmp_path / "clone"
    listed = subprocess.check_output(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, text=True
    )
    for name in listed.splitlines():
        if name.startswith(("packages/", "tests/")) or "/" not in name:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes((ROOT / name).read_bytes())
    for changelog in root.glob("packages/*/CHANGELOG.md"):
        text = changelog.read_text(encoding="utf-8")
        changelog.write_text(text.replace("(unreleased)", "(2026-11-30)"), encoding="utf-8")
    git(root, "init", "-q", "-b", "main")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "all")
    return root


def test_a_clean_main_with_a_dated_changelog_may_be_released(clone: pathlib.Path) -> None:
    assert release.refusals(clone, "ops-cache") == []
    assert "DiskCache" in release.notes(clone, "ops-cache")


def test_a_name_that_is_none_is_a_sentence_with_the_right_one(capsys) -> None:
    assert release.main(["check", "cache"]) == 1
    error = capsys.readouterr().err
    assert "'cache' is no distribution of this repository; did you mean ops-cache?" in error


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda root: git(root, "switch", "-q", "-c", "feature"), "from main, and this is feature"),
        (lambda root: (root / "new").write_text(""), "uncommitted changes"),
        (lambda root: git(root, "tag", "ops-cache-v0.1.0"), "ops-cache-v0.1.0 is released already"),
        (
            lambda root: edit(
                root, "packages/ops-cache/CHANGELOG.md", "(2026-11-30)", "(unreleased)"
            ),
            "calls 0.1.0 unreleased",
        ),
        (
            lambda root: edit(root, "packages/ops-cache/CHANGELOG.md", "## 0.1.0", "## 0.0.9"),
            "has no section '## 0.1.0'",
        ),
    ],
)
def test_a_release_is_refused_with_a_sentence(
    spoil: Callable[[pathlib.Path], None], sentence: str, clone: pathlib.Path
) -> None:
    spoil(clone)
    assert any(sentence in fault for fault in release.refusals(clone, "ops-cache"))


def test_siblings_are_taken_as_they_were_released(
    clone: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    git(clone, "tag", "ops-foundation-v0.1.0")
    added = "packages/ops-foundation/src/ops/foundation/added_later.py"
    (clone / added).write_text('"""New in the tree."""\n')
    edit(
        clone, "packages/ops-shm/src/ops/shm/errors.py", "class ", "class Planted: ...\n\n\nclass "
    )
    found = release.published(clone, "ops-shm", tmp_path / "out")
    names = {file.name.split("-")[0]: zipfile.ZipFile(file) for file in found}
    assert "ops/foundation/added_later.py" not in names["ops_foundation"].namelist()
    assert b"class Planted" in names["ops_shm"].read("ops/shm/errors.py")


def test_a_range_that_the_last_release_does_not_meet_is_refused(
    clone: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    git(clone, "tag", "ops-foundation-v0.1.0")
    edit(clone, "packages/ops-shm/pyproject.toml", "ops-foundation>=0.1,", "ops-foundation>=0.1.5,")
    with pytest.raises(release.Refused, match=r"was last released as 0\.1\.0"):
        release.published(clone, "ops-shm", tmp_path / "out")


def test_a_sibling_that_was_never_released_is_named(
    clone: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(release.Refused, match="ops-foundation was never released"):
        release.published(clone, "ops-shm", tmp_path / "out")


def test_the_flow_from_build_to_installation(
    clone: pathlib.Path, fresh_environment: Callable[..., pathlib.Path], tmp_path: pathlib.Path
) -> None:
    out = tmp_path / "dist"
    for name in ("ops-foundation", "ops-shm"):
        assert release.refusals(clone, name) == []
        release.build(clone, name, out)
        git(clone, "tag", f"{name}-v0.1.0")
    sdist = next(out.glob("ops_shm-*.tar.gz"))
    python = fresh_environment("--find-links", out, sdist, "pytest")
    program = "import ops.shm; print(ops.shm.__all__ != [])"
    shown = subprocess.check_output([str(python), "-I", "-c", program], text=True, cwd=tmp_path)
    assert shown == "True\n"
    with tarfile.open(sdist) as tar:
        tar.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.glob("ops_shm-0.1.0")
    assert (unpacked / "tests/shm/test_array.py").is_file()
    assert "[tool.pytest.ini_options]" in (unpacked / "pyproject.toml").read_text()


@pytest.mark.parametrize("dist", [*LIBRARIES, guards.SUITE])
def test_what_is_built_passes_twine_and_is_whole(dist: str, tmp_path: pathlib.Path) -> None:
    built = release.build(ROOT, dist, tmp_path)
    assert {file.suffix for file in built} == {".whl", ".gz"}
    command = [sys.executable, "-m", "twine", "check", "--strict", *map(str, built)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
    (sdist,) = (file for file in built if file.suffix == ".gz")
    with tarfile.open(sdist) as tar:
        inside = {name.partition("/")[2] for name in tar.getnames()}
    assert {"CHANGELOG.md", "README.md", "LICENSE", "tests/conftest.py"} <= inside
    assert any(name.startswith(f"tests/{dist[4:].replace('-', '_')}/test_") for name in inside)


def test_each_distribution_describes_itself() -> None:
    keywords = {}
    for dist in guards.distributions(ROOT).values():
        classifiers = dist.project["classifiers"]
        assert any(c.startswith("Topic :: ") for c in classifiers), dist.name
        pythons = {c.rpartition(" ")[2] for c in classifiers if "Python :: 3." in c}
        assert pythons == {"3.11", "3.12", "3.13"}, f"{dist.name} names what never ran"
        keywords[dist.name] = frozenset(dist.project["keywords"])
        readme = (dist.folder / "README.md").read_text(encoding="utf-8")
        relative = [link for link in re.findall(r"\]\(([^)]+)\)", readme) if "://" not in link]
        assert [link for link in relative if not link.startswith("#")] == [], dist.name
    assert len(set(keywords.values())) == len(keywords)
    for name in ("ops-shm", "ops-datalog", "ops-cache"):
        project = guards.distributions(ROOT)[name].project
        assert "Operating System :: POSIX :: Linux" in project["classifiers"]
