"""`python -m benchmarks [package | package/topic ...] [--quick]`: run and report.

Exits with 0 when everything ran and no target was missed, 1 for a missed one, 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import importlib.util
import pathlib
import sys

from benchmarks import harness


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("what", nargs="*", help="package, or package/topic; all when left out")
    parser.add_argument(
        "--quick", action="store_true", help="smoke test: 3 rounds, small sizes, nothing judged"
    )
    options = parser.parse_args()
    here = pathlib.Path(__file__).parent
    files = sorted(f for f in here.glob("*/*.py") if not f.name.startswith("_"))
    wanted = [
        f
        for f in files
        if not options.what or {f.parent.name, f"{f.parent.name}/{f.stem}"} & set(options.what)
    ]
    if not wanted:
        print(f"no benchmark matches {options.what}; there are:", *files, sep="\n  ")
        return 2
    met = True
    for file in wanted:
        print(f"\n=== {file.parent.name}/{file.stem}")
        spec = importlib.util.spec_from_file_location(f"bench_{file.parent.name}_{file.stem}", file)
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        cases = harness.cases_of(module, quick=options.quick)
        met &= harness.run(file.parent.name, file.stem, cases, quick=options.quick)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
