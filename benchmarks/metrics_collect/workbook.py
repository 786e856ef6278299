"""A sheet of 100 000 rows beside openpyxl, cell by cell: CPU time and memory."""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Iterator

import openpyxl

from benchmarks.harness import Case, Measure, Target
from benchmarks.metrics_collect._data import peak_megabytes
from ops.metrics_collect import Column, Report, Sheet

ROWS = 100_000

OURS = """
import sys
sys.path.insert(0, ".")
from benchmarks.metrics_collect.workbook import Nodes
{}Nodes().save(sys.argv[1])
"""
THEIRS = """
import sys
sys.path.insert(0, ".")
from benchmarks.metrics_collect.workbook import cell_by_cell
{}cell_by_cell(sys.argv[1])
"""


class Nodes(Report):
    """A sheet like 'Managed nodes'."""

    def sheets(self) -> list[Sheet]:
        columns = [Column("Host name", width=40)]
        columns += [
            Column(title, "integer") for title in ("Organizations", "Host runs", "Task runs")
        ]
        return [Sheet("Managed nodes", columns, rows)]


def rows() -> Iterator[list[object]]:
    for number in range(ROWS):
        yield [f"host-{number}.example.com", number % 7, number % 1000, number]


def cell_by_cell(path: str) -> None:
    """Write the same sheet as the program that was replaced did."""
    book = openpyxl.Workbook()
    page = book.active
    page.append(["Host name", "Organizations", "Host runs", "Task runs"])
    for line, row in enumerate(rows(), 2):
        for position, value in enumerate(row, 1):
            page.cell(line, position).value = value
    book.save(path)


def cases() -> Iterator[Case]:
    """Yield the cases. Memory is what saving adds to the process that has all modules loaded."""
    with tempfile.TemporaryDirectory() as name:
        ours, theirs = (str(pathlib.Path(name, f"{n}.xlsx")) for n in ("ours", "theirs"))
        yield Case(
            "100k rows to XLSX, CPU",
            {"ops": lambda: Nodes().save(ours), "openpyxl": lambda: cell_by_cell(theirs)},
            (Target("openpyxl", at_least=3),),
            measure=Measure.CPU,
            number=1,
            rounds=5,
            packages=("xlsxwriter", "openpyxl"),
        )
        yield Case(
            "100k rows to XLSX, MB added",
            {"ops": lambda: _added(OURS, ours), "openpyxl": lambda: _added(THEIRS, theirs)},
            (Target("openpyxl", at_least=20),),
            measure=Measure.RETURNED,
            rounds=3,
        )


def _added(program: str, path: str) -> float:
    idle = peak_megabytes(program.format("import xlsxwriter, xlsxwriter.workbook #"), path)
    return max(peak_megabytes(program.format(""), path) - idle, 0.1)
