"""Every check of this repository, one session each. `nox` alone passes the tests; `nox -l` lists all."""

from __future__ import annotations

import concurrent.futures
import difflib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import nox

if sys.version_info < (3, 11):
    sys.exit(f"ops needs Python 3.11 or newer; this nox runs on {sys.version.split()[0]}.")

import tomllib

ROOT = pathlib.Path(__file__).parent
if not os.access(ROOT, os.W_OK):
    sys.exit(f"nox keeps its environments in {ROOT}, which you may not write to.")
if not (shutil.which("uv") or (pathlib.Path(sys.executable).parent / "uv").exists()):
    sys.exit('uv is needed and was not found; install it with: python -m pip install "nox[uv]"')

nox.options.default_venv_backend = "uv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False
nox.options.reuse_venv = "yes"
nox.options.sessions = ["check"]

PROJECT = nox.project.load_toml("pyproject.toml")
GROUPS = PROJECT["dependency-groups"]
LOCK = ROOT / "requirements.lock"
TOOLS = ROOT / "tools"


def metadata(directory: pathlib.Path) -> dict:
    return tomllib.loads((directory / "pyproject.toml").read_text(encoding="utf-8"))


PACKAGES = {
    metadata(f.parent)["project"]["name"]: f.parent
    for f in sorted(ROOT.glob("packages/*/pyproject.toml"))
}
LIBRARIES = [name for name in PACKAGES if name != "ops-suite"]
each_library = nox.parametrize("dist", [nox.param(name, id=name) for name in LIBRARIES])
#: What CI runs. Sessions that take long come first, so that the cores end at about the same time.
CHECKS = ["contracts", "types"] + [
    f"tests({name})" for name in sorted(LIBRARIES, key=lambda name: name != "ops-registry")
]
CHECKS += ["examples", "lint", "docs", "coexist"]


def module(dist: str) -> str:
    return dist.removeprefix("ops-").replace("-", "_")


def closure(dist: str) -> list[str]:
    """Return *dist* and every distribution of this repository that it needs, lowest floor first."""
    seen: dict[str, None] = {}

    def visit(name: str) -> None:
        for requirement in metadata(PACKAGES[name])["project"].get("dependencies", []):
            needed = re.match(r"[A-Za-z0-9._-]+", requirement)[0]
            if needed in PACKAGES and needed not in seen:
                visit(needed)
        seen[name] = None

    visit(dist)
    return list(seen)


def editable(names: list[str]) -> list[str]:
    return [part for name in names for part in ("-e", str(PACKAGES[name]))]


def test_group(dist: str) -> list[str]:
    """Return what the tests of *dist* need beyond its dependencies: its own group and the shared one."""
    return [*metadata(PACKAGES[dist]).get("dependency-groups", {}).get("test", []), *GROUPS["test"]]


def install(session: nox.Session, *requirements: str) -> None:
    """Install in the versions of the lock, whose hashes uv checks; refuse what the lock does not name."""
    lock = str(LOCK)
    session.install("--constraint", lock, "--build-constraint", lock, *requirements)
    session.run("python", str(TOOLS / "lock.py"), "verify", silent=True)


def everything() -> list[str]:
    groups = {requirement for name in PACKAGES for requirement in test_group(name)}
    return [*editable(list(PACKAGES)), *sorted(groups)]


def build_wheels(session: nox.Session) -> pathlib.Path:
    """Build every distribution into a fresh folder and return it."""
    out = pathlib.Path(session.create_tmp()) / "wheels"
    shutil.rmtree(out, ignore_errors=True)
    options = ["--all-packages", "--wheel", "-q", "--build-constraint", str(LOCK), "-o", str(out)]
    session.run("uv", "build", *options, external=True)
    return out


@nox.session(venv_backend="none")
def check(session: nox.Session) -> None:
    """Run every check that CI runs, one beside the other on each core; `-- -x` goes to all tests."""

    def run(name: str) -> tuple[str, float, subprocess.CompletedProcess[str]]:
        session.log(f"{name} begins")
        options = ["-f", str(ROOT / "noxfile.py"), "-s", name, "--", *session.posargs]
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "nox", *options],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        return name, time.monotonic() - began, done

    failed = []
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as cores:
        for future in concurrent.futures.as_completed([cores.submit(run, n) for n in CHECKS]):
            name, seconds, done = future.result()
            print(done.stdout, flush=True)
            session.log(f"{name} {'failed' if done.returncode else 'passed'} in {seconds:.0f} s")
            failed += [name] if done.returncode else []
    if failed:
        session.error(f"failed: {', '.join(failed)}")


@nox.session(default=False)
@each_library
def tests(session: nox.Session, dist: str) -> None:
    """Test one distribution with only what it declares installed."""
    install(session, *editable(closure(dist)), *test_group(dist))
    session.run("pytest", f"tests/{module(dist)}", *session.posargs)


@nox.session(default=False)
@each_library
def latest(session: nox.Session, dist: str) -> None:
    """Test one distribution with the newest versions that its metadata allows, without the lock."""
    session.install("--upgrade", *editable(closure(dist)), *test_group(dist))
    session.run("pytest", f"tests/{module(dist)}", *session.posargs)


@nox.session(default=False)
@each_library
def tomorrow(session: nox.Session, dist: str) -> None:
    """Test one distribution with processes started as Python 3.14 does: by a fork server."""
    install(session, *editable(closure(dist)), *test_group(dist))
    path = {"PYTHONPATH": str(TOOLS / "tomorrow")}
    session.run("pytest", f"tests/{module(dist)}", *session.posargs, env=path)


@nox.session(default=False)
@each_library
def minimums(session: nox.Session, dist: str) -> None:
    """Test one distribution against the lowest versions that its metadata allows, from wheels."""
    wheels = build_wheels(session)
    names = [name.replace("-", "_") for name in closure(dist)]
    files = [str(next(wheels.glob(f"{name}-*.whl"))) for name in names]
    session.install("--resolution=lowest-direct", *files, *test_group(dist))
    # Old releases say of themselves that they use what is deprecated by now.
    old = "ignore::DeprecationWarning"
    session.run("pytest", "-W", old, f"tests/{module(dist)}", *session.posargs)


@nox.session(default=False)
def contracts(session: nox.Session) -> None:
    """Check what every distribution promises: layers, pins, exports, wheels, import budgets."""
    install(session, *everything(), *GROUPS["contracts"], *GROUPS["types"])
    session.run("pytest", "tests/contracts", "tests/suite", *session.posargs)


@nox.session(default=False)
def mutants(session: nox.Session) -> None:
    """Break one line after the other and check that a test fails each time (see tests/mutants)."""
    install(session, *everything())
    session.run("python", "-m", "tests.mutants", *session.posargs)


@nox.session(default=False)
def coexist(session: nox.Session) -> None:
    """Check that our wheels live beside the PyPI distribution `ops`, which owns ops/__init__.py."""
    wheels = build_wheels(session)
    here = ["--find-links", str(wheels), "ops-suite"]
    install(session, *here, *GROUPS["coexist"], *GROUPS["test"])
    session.run("pytest", "tests/coexist", "-p", "no:cacheprovider", *session.posargs)


@nox.session(default=False)
def lint(session: nox.Session) -> None:
    """Check format, style, layers and workflows; `nox -s lint -- --fix` mends what can be mended."""
    install(session, *editable(list(PACKAGES)), *GROUPS["lint"])
    fix = "--fix" in session.posargs
    session.run("python", "-m", "tests.contracts.facades", *(["--fix"] if fix else []))
    session.run("ruff", "format", *([] if fix else ["--check"]), ".")
    session.run("ruff", "check", *(["--fix"] if fix else []), ".")
    session.run("lint-imports")
    session.run("python", str(TOOLS / "words.py"))
    workflows = sorted(map(str, ROOT.glob(".github/workflows/*.yml")))
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *workflows)
    session.run("zizmor", "--offline", "--no-progress", "--quiet", ".github")


@nox.session(default=False)
def types(session: nox.Session) -> None:
    """Check all types with mypy and pyright, users' calls in tests/typing included."""
    install(session, *everything(), *GROUPS["types"])
    # One portion at a time: `mypy -p ops` would silently check a single one.
    packages = [part for name in LIBRARIES for part in ("-p", f"ops.{module(name)}")]
    session.run("mypy", *packages, "-p", "ops_suite")
    session.run("mypy", "tests/typing")
    session.run("mypy", "--follow-imports=silent", "benchmarks")
    session.run("pyright")
    session.run("pytest", "tests/typing")


@nox.session(default=False)
def examples(session: nox.Session) -> None:
    """Run every code block of the READMEs and docs, and every doctest."""
    install(session, *everything(), *GROUPS["docs"])
    session.run("pytest", "tests/examples", *session.posargs)


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """Build the documentation; a warning is an error, and so is a public name that it lacks."""
    install(session, *everything(), *GROUPS["docs"])
    session.run(
        "sphinx-build", "-W", "--keep-going", "-q", "-b", "html", "docs", "docs/_build/html"
    )
    session.run("pytest", "tests/docs")


@nox.session(default=False)
def demo(session: nox.Session) -> None:
    """Run the end-to-end demo; results land in ./ops-demo."""
    install(session, *editable(list(PACKAGES)), "-e", f"{PACKAGES['ops-suite']}[demo]")
    session.run("python", "-m", "ops_suite", "demo", *session.posargs)


@nox.session(default=False)
def faults(session: nox.Session) -> None:
    """Run the kill and soak tests at full length; takes an hour."""
    install(session, *everything())
    session.run("pytest", "-m", "fault", *session.posargs, env={"OPS_FAULTS": "full"})


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Measure: `nox -s bench -- cache serialize/digest --quick`; writes benchmarks/results."""
    install(session, *everything(), *GROUPS["bench"])
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session(default=False, venv_backend="none")
def lock(session: nox.Session) -> None:
    """Add to the lock what the tree newly requires; `nox -s lock -- --upgrade` moves everything."""
    session.run(sys.executable, str(TOOLS / "lock.py"), "write", *session.posargs, external=True)
    session.run(sys.executable, str(TOOLS / "lock.py"), "check", external=True)
    session.notify("pin", posargs=[])


@nox.session(default=False)
def pin(session: nox.Session) -> None:
    """Write pins, extras and constraints of ops-suite from the tree."""
    install(session, *GROUPS["contracts"])
    session.run("python", str(PACKAGES["ops-suite"] / "pin.py"), *session.posargs)


@nox.session(default=False, venv_backend="none")
def build(session: nox.Session) -> None:
    """Build sdist and wheel of distributions into dist/: `nox -s build -- ops-cache`."""
    for name in session.posargs or PACKAGES:
        session.run(sys.executable, str(TOOLS / "release.py"), "build", name, external=True)


@nox.session(default=False)
def published(session: nox.Session) -> None:
    """Test one distribution with its siblings as they were last released: `-- ops-cache`."""
    name = one_distribution(session)
    out = pathlib.Path(session.create_tmp()) / "published"
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, str(TOOLS / "release.py"), "published", name, str(out)]
    session.run(*command, external=True)
    install(session, *map(str, sorted(out.glob("*.whl"))), *test_group(name))
    session.run("pytest", f"tests/{module(name)}")


@nox.session(default=False, venv_backend="none")
def release(session: nox.Session) -> None:
    """Tag a release after checks: `nox -s release -- ops-cache`; the workflow publishes the tag."""
    name = one_distribution(session)
    session.run(sys.executable, str(TOOLS / "release.py"), "check", name, external=True)
    checks = ["contracts", *([f"tests({name})"] if name in LIBRARIES else [])]
    session.run(sys.executable, "-m", "nox", "-s", *checks, external=True)
    session.run(sys.executable, "-m", "nox", "-s", "published", "--", name, external=True)
    version = metadata(PACKAGES[name])["project"]["version"]
    session.run("git", "tag", "-a", f"{name}-v{version}", "-m", f"{name} {version}", external=True)
    session.log(f"push it with: git push origin {name}-v{version}")


def one_distribution(session: nox.Session) -> str:
    """Return the distribution that was named after `--`; an unknown one ends the session."""
    if len(session.posargs) != 1:
        session.error("name one distribution, such as: nox -s release -- ops-cache")
    (name,) = session.posargs
    if name not in PACKAGES:
        near = difflib.get_close_matches(name, PACKAGES, n=1, cutoff=0.3)
        hint = f"; did you mean {near[0]}?" if near else ""
        session.error(f"{name!r} is no distribution of this repository{hint}")
    return name
