"""Mutants: single changes of the source that must not survive the tests.

A test suite proves only what it would notice. Each entry of a `<distribution>.toml` in this folder takes
one guard, flush, lock or comparison that matters and breaks it:

    [[mutant]]
    name = "atomic_write does not flush the file"          # what is wrong then, unique in its file
    file = "packages/ops-x/src/ops/x/files.py"
    before = "            os.fsync(descriptor)"             # whole lines, there exactly once
    after = "            pass"
    tests = ["tests/x/test_files.py"]                      # pytest's arguments; at least one fails

`nox -s mutants` runs all, `nox -s mutants -- foundation flush` those whose names hold both words. The
source itself is never changed: each mutant is a copy of its distribution, first on PYTHONPATH.
`tests/contracts/test_mutants.py` keeps the entries true to the source.
"""
