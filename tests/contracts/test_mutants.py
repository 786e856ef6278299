"""The lists of mutants describe the source as it is; `nox -s mutants` runs them."""

import pytest
from tests.mutants.catalog import Mutant, mutants


@pytest.mark.parametrize("mutant", mutants(), ids=lambda m: m.name)
def test_a_mutant_changes_a_line_that_is_there_once(mutant: Mutant) -> None:
    assert mutant.problem() is None


def test_names_of_mutants_are_unique() -> None:
    names = [m.name for m in mutants()]
    assert sorted(set(names)) == sorted(names)


def test_a_mutant_is_a_copy_with_one_change(tmp_path) -> None:
    mutant = mutants()[0]
    root = mutant.write(tmp_path / "src")
    changed = (root / mutant.file.split("/src/")[1]).read_text(encoding="utf-8")
    assert mutant.after.strip("\n") in changed
    assert mutant.before.strip("\n") not in changed
    assert mutant.problem() is None  # the original is as it was
