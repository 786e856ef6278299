"""The page "How far it goes": each library has a section, and what is computed follows from what was measured."""

from __future__ import annotations

import importlib
import json
import pathlib
import re
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-far-it-goes.md"
BUILT = ROOT / "docs" / "_build" / "html" / "how-far-it-goes.html"
LIBRARIES = sorted(file.name for file in (ROOT / "packages").iterdir() if file.name != "ops-suite")
PARTS = ("Cost model", "Where it bends", "What carries on")
PEER = "the other"


@pytest.fixture
def growth_page(monkeypatch):
    """The module of the documentation, imported as Sphinx does."""
    monkeypatch.setattr(sys, "path", [str(ROOT / "docs" / "_ext"), *sys.path])
    module = importlib.import_module("growth_page")
    written = module.fragment
    # What a reader sees: spaces that keep a number and its unit on one line are spaces.
    monkeypatch.setattr(module, "fragment", lambda *args: written(*args).replace("\xa0", " "))
    return module


@pytest.fixture
def measured(tmp_path):
    """Writes results of the cache with a case for each size and value."""

    def write(growth: str, values: dict[int, float], peer: dict[int, float] | None = None):
        cases = [
            {
                "name": f"get, {size} entries",
                "operation": "get",
                "size": size,
                "unit": "entries",
                "growth": growth,
                "figure_unit": "seconds",
                "measure": "seconds of wall time per call",
                "median": {"ops-cache": value}
                | ({PEER: peer[size]} if peer and size in peer else {}),
            }
            for size, value in values.items()
        ]
        report = {"when": "2026-11-30T00:00:00", "machine": "m", "python": "3.11", "cases": cases}
        (tmp_path / "cache-growth.json").write_text(json.dumps(report), encoding="utf-8")
        return tmp_path

    return write


def section(library: str) -> str:
    sections = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    (found,) = [text for text in sections if text.splitlines()[0] == library]
    return found


@pytest.mark.parametrize("library", LIBRARIES)
def test_each_library_has_a_section_with_its_measurements(library: str, growth_page) -> None:
    text = section(library)
    assert [part for part in PARTS if f"**{part}.**" not in text] == []
    name = library.removeprefix("ops-").replace("-", "_")
    assert f"```{{include}} reference/growth/{name}.md\n```" in text
    assert (ROOT / "benchmarks" / name / f"{growth_page.TOPICS[name]}.py").is_file()


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_built_page_has_charts_or_names_the_command_that_makes_them(library: str) -> None:
    _, _, rest = BUILT.read_text(encoding="utf-8").partition(f'<section id="{library}">')
    text = rest.partition('<section id="')[0]
    assert "<svg viewBox" in text or "Not measured yet" in text


@pytest.mark.parametrize(
    ("growth", "expected"),
    [("linear", "**100 ms**, 100 times as much"), ("flat", "**1 ms**, as much")],
)
def test_a_hundred_times_the_largest_size_follows_from_the_growth(
    growth: str, expected: str, growth_page, measured
) -> None:
    values = {1_000_000: 1e-3, 1_000: 9e-4}  # the largest counts, in whatever order they come
    text = growth_page.fragment("cache", measured(growth, values))
    assert "Computed, not measured" in text
    assert f"*get* at 100 000 000 entries: {expected} as at 1 000 000." in text


@pytest.mark.parametrize(
    ("growth", "last", "exceeds"),
    [("flat", 1.4, False), ("flat", 1.6, True), ("linear", 14.0, False), ("linear", 16.0, True)],
)
def test_a_curve_that_grows_faster_than_its_class_is_marked(
    growth: str, last: float, exceeds: bool, growth_page, measured
) -> None:
    text = growth_page.fragment("cache", measured(growth, {1_000: 1.0, 10_000: last}))
    assert ("grew faster than that" in text) is exceeds


@pytest.mark.parametrize(
    ("growth", "last", "expected"),
    [
        ("linear", 1.9, "by the slope of the last step 101 s."),
        ("linear", 0.9, "by the slope of the last step 900 ms."),
        ("linear", 6.0, None),
        ("flat", 1.0, None),
    ],
)
def test_a_linear_curve_that_still_bends_has_a_second_value(
    growth: str, last: float, expected: str | None, growth_page, measured
) -> None:
    text = growth_page.fragment("cache", measured(growth, {1_000: 1.0, 10_000: last}))
    assert ("At most, since a fixed part" in text) is (expected is not None)
    assert expected is None or expected in text


def test_a_chart_has_every_measured_point_and_one_that_is_computed(growth_page, measured) -> None:
    ours = {1_000: 2e-6, 10_000: 3e-6, 100_000: 4e-6}
    text = growth_page.fragment("cache", measured("flat", ours, peer={1_000: 1e-5}))
    assert text.count("<circle") == 3 + 1 + 1
    assert "ops-cache: 3 µs at 10 000 entries" in text
    assert "the other: 10 µs at 1 000 entries" in text
    assert "computed, not measured: 4 µs at 10 000 000 entries" in text


def test_a_table_leaves_empty_what_a_peer_was_not_measured_at(growth_page, measured) -> None:
    text = growth_page.fragment("cache", measured("flat", {10: 1.0, 100: 1.0}, peer={10: 3.0}))
    assert "| get | 1 s | 1 s | flat | 1 times |" in text
    assert f"| the same, {PEER} | 3 s |  |  |  |" in text


def test_curves_of_equal_sizes_that_count_other_things_have_tables_of_their_own(
    growth_page, measured
) -> None:
    folder = measured("flat", {10: 1.0, 100: 1.0})
    file = folder / "cache-growth.json"
    report = json.loads(file.read_text(encoding="utf-8"))
    report["cases"] += [c | {"operation": "lock", "unit": "processes"} for c in report["cases"]]
    file.write_text(json.dumps(report), encoding="utf-8")
    text = growth_page.fragment("cache", folder)
    assert "| operation | 10 entries | 100 |" in text
    assert "| operation | 10 processes | 100 |" in text


def test_sizes_in_bytes_have_the_multiple_that_suits_them(growth_page, measured) -> None:
    folder = measured("flat", {100: 1.0, 100_000_000: 1.0})
    file = folder / "cache-growth.json"
    text = file.read_text(encoding="utf-8").replace('"entries"', '"bytes"')
    file.write_text(text, encoding="utf-8")
    found = growth_page.fragment("cache", folder)
    assert "| operation | 100 bytes | 100 MB | growth | grew by |" in found
    assert "*get* at 10 GB: **1 s**, as much as at 100 MB." in found


def test_results_that_are_missing_or_have_no_sizes_give_a_sentence(
    growth_page, measured, tmp_path
) -> None:
    sentence = "Not measured yet: `nox -s bench -- cache/growth` measures it.\n"
    assert growth_page.fragment("cache", tmp_path) == sentence
    file = measured("flat", {10: 1.0}) / "cache-growth.json"
    report = json.loads(file.read_text(encoding="utf-8"))
    for case in report["cases"]:
        del case["size"]
    file.write_text(json.dumps(report), encoding="utf-8")
    assert growth_page.fragment("cache", tmp_path) == sentence


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (3.2e-9, "seconds", "3.2 ns"),
        (9.999e-7, "seconds", "1 µs"),
        (0.5, "seconds", "500 ms"),
        (90, "seconds", "90 s"),
        (7200, "seconds", "2 h"),
        (36_000_000, "seconds", "10 000 h"),
        (100_000_000, "bytes", "100 MB"),
        (145.2, "bytes", "145 bytes"),
        (146, "MB", "146 MB"),
        (57_000, "MB", "57 GB"),
    ],
)
def test_quantities_have_a_suitable_unit(value: float, unit: str, text: str, growth_page) -> None:
    assert importlib.import_module("quantities").quantity(value, unit) == text.replace(" ", "\xa0")
