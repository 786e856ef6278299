import pytest

from ops.metrics_collect import (
    Chart,
    Column,
    DataframeJobHostSummary,
    Formula,
    Report,
    ReportCCSP,
    Sheet,
)

openpyxl = pytest.importorskip("openpyxl")
pytest.importorskip("xlsxwriter")
from ops.metrics_collect.reports._xlsx import clean_text, render, sheet_name  # noqa: E402 - needs the extra


def cells(path, sheet):
    return list(openpyxl.load_workbook(path)[sheet].iter_rows(values_only=True))


def test_text_stays_text_whatever_it_starts_with(tmp_path):
    values = ["=1+1", "+1", "-1", "@x", "=cmd|'/C calc'!A0", "_x0041_", "https://example.com"]
    sheet = Sheet(
        "S", [Column("t")], lambda: [[v] for v in [*values, "a\x00\x1bb\ud800", "y" * 40_000]]
    )
    render([sheet], tmp_path / "r.xlsx")
    page = openpyxl.load_workbook(tmp_path / "r.xlsx")["S"]
    column = [c.value for c in page["A"]][1:]
    assert all(c.data_type == "s" for c in page["A"])
    assert [openpyxl.utils.escape.unescape(v) for v in column[:7]] == values
    assert column[7] == "ab"
    assert len(column[8]) == 32_767


def test_a_table_longer_than_a_sheet_goes_on_in_another(tmp_path):
    sheet = Sheet("Long", [Column("n", "integer")], lambda: ([i] for i in range(10)))
    render([sheet], tmp_path / "r.xlsx", max_rows=5)
    assert openpyxl.load_workbook(tmp_path / "r.xlsx").sheetnames == [
        "Long",
        "Long (2)",
        "Long (3)",
    ]
    assert cells(tmp_path / "r.xlsx", "Long (3)") == [("n",), (8,), (9,)]


def test_names_and_texts_are_as_long_as_excel_counts_them():
    """It counts units of UTF-16, of which an emoji has two, and half an emoji is none."""
    taken = set()
    names = [sheet_name("\N{ROCKET}" * 40, taken), sheet_name("x" + "\N{ROCKET}" * 40, taken)]
    assert names == ["\N{ROCKET}" * 15, "x" + "\N{ROCKET}" * 15]
    shown = clean_text("\N{ROCKET}" * 20_000)
    assert len(shown.encode("utf-16-le")) // 2 <= 32_767
    assert shown == "\N{ROCKET}" * 16_383 + "…"
    assert clean_text("\N{ROCKET}" * 16_383) == "\N{ROCKET}" * 16_383


def test_sheet_names_are_made_acceptable_and_distinct():
    taken = set()
    names = [sheet_name(t, taken) for t in ("a/b:c", "A B C", "x" * 40, "x" * 50, "", "History")]
    assert names == ["a b c", "A B C (2)", "x" * 31, "x" * 27 + " (2)", "Sheet", "History_"]


def test_numbers_that_excel_cannot_hold_are_text(tmp_path):
    sheet = Sheet("S", [Column("n", "number")], lambda: [[float("nan")], [2**60], [True], [None]])
    render([sheet], tmp_path / "r.xlsx")
    assert [r[0] for r in cells(tmp_path / "r.xlsx", "S")][1:4] == ["nan", str(2**60), True]


def test_csv_defuses_what_a_spreadsheet_would_run(tmp_path):
    class Hostile(Report):
        def sheets(self):
            return [Sheet("../S", [Column("t")], lambda: [["=1+1"], ["fine"]])]

    [path] = Hostile().to_csv(tmp_path / "out")
    assert path.parent == tmp_path / "out"
    assert path.read_text() == "t\n'=1+1\nfine\n"


def test_ccsp_charges_each_host_once_per_organization(tmp_path):
    source = tmp_path / "rows.csv"
    source.write_text(
        "id,created,modified,host_name,ok,organization_name,job_remote_id\n"
        + "".join(f"{i},2026-10-01,2026-10-01,h{i % 3},1,Org {i % 2},{i}\n" for i in range(12))
    )
    hosts = DataframeJobHostSummary().add_csv(source)
    report = ReportCCSP({"job_host_summary": hosts}, {"company": "ACME", "sku": "S", "price": 2.5})
    report.save(tmp_path / "r.xlsx")
    rows = cells(tmp_path / "r.xlsx", "Usage Reporting")
    assert rows[0][:2] == ("Company", "ACME")
    assert rows[6:] == [
        ("Org 0", 3, 2.5, "=B7*C7"),
        ("Org 1", 3, 2.5, "=B8*C8"),
        ("Sum", None, None, "=SUM(D7:D8)"),
    ]
    assert [r[0] for r in cells(tmp_path / "r.xlsx", "Managed nodes")] == [
        "Host name",
        "h0",
        "h1",
        "h2",
    ]


class Drawn(Report):
    """A sheet of texts, numbers and a sum."""

    def __init__(self, rows, **options):
        self._rows, self._options = rows, options

    def sheets(self):
        columns = [
            Column("Name"),
            Column("Count", "integer"),
            Column("A title of very many words that are long", "money"),
            Column("Note"),
        ]
        return [Sheet("Drawn", columns, lambda: self._rows, **self._options)]


def page_of(report, tmp_path):
    report.save(tmp_path / "drawn.xlsx")
    return openpyxl.load_workbook(tmp_path / "drawn.xlsx")["Drawn"]


def test_columns_are_as_wide_as_their_texts_and_longer_ones_take_several_lines(tmp_path):
    rows = [["x" * 50, 1, 2.0, "日本" * 10], ["y" * 300, 3, 4.0, "short"]]
    page = page_of(Drawn(rows), tmp_path)
    width = {letter: page.column_dimensions[letter].width for letter in "ABCD"}
    assert 64 <= width["A"] <= 66
    assert width["D"] >= 40
    assert width["C"] < len("A title of very many words that are long")
    assert page["C1"].alignment.wrap_text
    assert page.row_dimensions[1].height > 15
    assert page.row_dimensions[2].height in {None, 15}
    assert page.row_dimensions[3].height == 15 * 5
    assert page["A3"].alignment.wrap_text
    assert {page[f"{letter}3"].alignment.vertical for letter in "ABCD"} == {"top"}
    assert page["D2"].alignment.indent == 1  # set apart from the number before it


def test_a_sum_is_set_apart_from_the_table(tmp_path):
    rows = [["a", 1, 2.0, None], ["Sum", None, Formula("=SUM(C{first}:C{above})", 2.0), None]]
    page = page_of(Drawn(rows, total=True), tmp_path)
    assert [page[f"{letter}3"].font.bold for letter in "ABCD"] == [True] * 4
    assert page["B3"].border.top.style == "thin"
    assert page["C3"].number_format == "#,##0.00"
    assert not page["A2"].font.bold


@pytest.mark.parametrize(("count", "below"), [(5, True), (60, False)])
def test_charts_stand_below_a_short_table_and_beside_a_long_one(tmp_path, count, below):
    charts = [Chart("Counts", "Name", ("Count",), "bar"), Chart("Again", "Name", ("Count",))]
    rows = [[f"name {n}", n, 1.0, ""] for n in range(count)]
    page = page_of(Drawn(rows, charts=charts), tmp_path)
    places = [(c.anchor._from.row, c.anchor._from.col) for c in page._charts]
    assert places[0] == ((count + 2, 0) if below else (1, 5))
    assert places[1][0] >= places[0][0] + 15


def test_pages_are_numbered_and_wide_tables_go_over_several(tmp_path):
    page = page_of(Drawn([["a", 1, 2.0, "b"]]), tmp_path)
    assert (page.page_setup.orientation, page.page_setup.fitToWidth) == ("landscape", None)
    assert page.oddFooter.right.text == "&P / &N"

    class Wide(Report):
        def sheets(self):
            columns = [Column(f"Column {n}", width=40) for n in range(12)]
            return [Sheet("Drawn", columns, lambda: [["x"] * 12])]

    wide = page_of(Wide(), tmp_path)
    assert wide.page_setup.fitToWidth == 3
    assert wide.print_title_cols == "$A:$A"
