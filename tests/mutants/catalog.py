"""Reading the lists of mutants, and making one of them."""

from __future__ import annotations

import dataclasses
import shutil
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
LISTS = Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One change of one file, and the tests of which at least one must fail with it."""

    name: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]

    def problem(self) -> str | None:
        """Return what is wrong with the entry, as against the source of now."""
        if not (ROOT / self.file).is_file():
            return f"{self.file} is not there"
        count = _lines(self._source()).count(_lines(self.before))
        if count != 1:
            return f"the lines before are {count} times in {self.file}, not once"
        if self.before == self.after:
            return "it changes nothing"
        missing = [t for t in self.tests if not (ROOT / t.split("::")[0]).exists()]
        return f"its tests are not there: {missing}" if missing or not self.tests else None

    def write(self, folder: Path) -> Path:
        """Copy the distribution's source to *folder* with the change made; return the new root."""
        source = ROOT / Path(*Path(self.file).parts[:3])  # packages/ops-x/src
        shutil.copytree(source, folder, ignore=shutil.ignore_patterns("__pycache__"))
        changed = _lines(self._source()).replace(_lines(self.before), _lines(self.after))
        (folder / Path(*Path(self.file).parts[3:])).write_text(changed[1:], encoding="utf-8")
        return folder

    def _source(self) -> str:
        return (ROOT / self.file).read_text(encoding="utf-8")


def _lines(text: str) -> str:
    """Return *text* so that only whole lines are found in it."""
    return "\n" + text.strip("\n") + "\n"


def mutants() -> list[Mutant]:
    """Return those of all lists, each named "list: name"."""
    found = []
    for path in sorted(LISTS.glob("*.toml")):
        entries = tomllib.loads(path.read_text(encoding="utf-8")).get("mutant", [])
        for entry in entries:
            values = {**entry, "name": f"{path.stem}: {entry['name']}"}
            found.append(Mutant(**{**values, "tests": tuple(values["tests"])}))
    return found
