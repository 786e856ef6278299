"""Text for people: rolls over, lines up, never divides by zero."""

import datetime as dt
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.foundation import formatting as f


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (1234567890, "1.15 GB"),
        (1024**2 - 1, "1.00 MB"),
        (-1024, "-1.00 KB"),
    ],
)
def test_bytes(n, text):
    assert f.format_bytes(n) == text


@given(st.integers(0, 2**60))
def test_bytes_read_back_within_half_a_step_and_stay_below_1024(n):
    number, unit = f.format_bytes(n).split()
    size = 1024 ** ["B", "KB", "MB", "GB", "TB", "PB", "EB"].index(unit)
    assert float(number) < 1024
    assert abs(float(number) * size - n) <= 0.00501 * size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (123.45, "2m 3s"), (0.85, "850ms"), (3723, "1h 2m 3s"), (2 * 86400 + 3 * 3600, "2d 3h"),
        (0, "0s"), (59.99, "1m"), (0.99999, "1s"), (1.5, "1.5s"), (86399.9, "1d"), (-5, "-5s"),
    ],
)  # fmt: skip
def test_durations(seconds, text):
    assert f.format_duration(seconds) == text
    assert f.format_duration(dt.timedelta(seconds=seconds)) == text


def test_a_bar_of_nothing_is_a_finished_one():
    assert "100.0%" in f.create_progress_bar(0, 0, show_time=True, elapsed_time=0)
    assert f.create_progress_bar(0, 10, show_time=True, elapsed_time=1)


@given(st.floats(-10, 200), st.integers(0, 100), st.integers(0, 60))
def test_a_bar_is_always_as_wide_as_asked(current, total, width):
    bar = f.create_progress_bar(current, total, width=width, show_percentage=False)
    assert len(bar) == width + 2


def test_wide_characters_line_up():
    table = f.format_table([["日本", 1], ["ab", 22]], ["name", "n"]).splitlines()
    assert {f.display_width(line) for line in table} == {8}


@given(st.text(), st.integers(0, 20))
def test_truncated_text_is_never_longer_than_asked(text, length):
    assert len(f.truncate_string(text, length)) <= length


def test_colour_obeys_the_environment(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert f.colorize_text("x", f.Color.RED) == "\x1b[31mx\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert f.colorize_text("x", f.Color.RED) == "x"


MOMENT = dt.datetime(2024, 2, 29, 12, 30, 5, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("style", "text"),
    [
        ("iso", "2024-02-29T12:30:05+00:00"),
        ("human", "2024-02-29 12:30:05 UTC"),
        ("date", "2024-02-29"),
        ("time", "12:30:05"),
        ("%d/%m/%y", "29/02/24"),
    ],
)
def test_moments(style, text):
    assert f.format_timestamp(MOMENT, style) == text
    assert f.format_timestamp(MOMENT.timestamp(), style) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "just now"),
        (1, "1 second ago"),
        (-90, "in 1 minute"),
        (7200, "2 hours ago"),
        (86400 * 8, "1 week ago"),
        (86400 * 800, "2 years ago"),
    ],
)
def test_moments_seen_from_another(seconds, text):
    at = MOMENT + dt.timedelta(seconds=seconds)
    assert f.format_timestamp(MOMENT, "relative", relative_to=at) == text


def test_a_moment_is_shown_in_the_zone_that_was_asked_for_and_a_naive_one_is_refused():
    east = dt.timezone(dt.timedelta(hours=2))
    assert f.format_timestamp(MOMENT, "time", tz=east) == "14:30:05"
    with pytest.raises(ValueError, match="no time zone"):
        f.format_timestamp(dt.datetime(2024, 1, 1))
    with pytest.raises(ValueError, match="strftime"):
        f.format_timestamp(MOMENT, "pretty")


def test_a_diff_shows_what_went_and_what_came_and_nothing_when_equal():
    diff = f.format_diff("a\nb\nc", "a\nB\nc", old_name="before", new_name="after", context=0)
    assert diff.splitlines() == ["--- before", "+++ after", "@@ -2 +2 @@", "-b", "+B"]
    assert f.format_diff(["same"], "same") == ""


@pytest.mark.parametrize(
    ("n", "text"),
    [(999, "999"), (1234567, "1.2M"), (999_950, "1.0M"), (-1500, "-1.5K"), (2.5, "2.5")],
)
def test_numbers(n, text):
    assert f.humanize_number(n) == text


def test_a_number_that_no_float_holds_is_infinite():
    assert f.format_bytes(10**400) == "inf B"
    assert f.format_duration(-(10**400)) == "-inf"


def test_progress_that_is_not_known_is_none():
    assert f.create_progress_bar(math.nan, 10, width=4).startswith("|░░░░|")


def test_what_a_row_does_not_have_leaves_its_column_to_the_numbers():
    table = f.format_table([{"n": 1.5}, {"m": "x"}, {"n": 22}])
    assert table.splitlines()[2:] == ["1.5", "     x", " 22"]


def test_colours_and_tabs_do_not_shift_a_table():
    red = "\x1b[31mred\x1b[0m"
    table = f.format_table([[red, 1], ["a\tb", 22]], ["x", "y"], max_width=4)
    assert table.replace(red, "red").splitlines() == [
        "x     y",
        "---  --",
        "red   1",
        "a b  22",
    ]
    assert f.format_table([["\x1b[31mcrimson\x1b[0m"]], max_width=4) == "cri…"


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (1024**7, "1.00 ZB"),
        (1024**8, "1.00 YB"),
        (1024**9, "1.00 RB"),
        (1024**10, "1.00 QB"),
        (1024**11, "1024.00 QB"),
        (-(1024**7), "-1.00 ZB"),
    ],
)
def test_sizes_beyond_exabytes_have_units_of_their_own(n, text):
    assert f.format_bytes(n) == text


def test_binary_units_are_named_as_such_where_that_is_asked_for():
    assert f.format_bytes(1234567890, binary=True) == "1.15 GiB"
    assert f.format_bytes(512, binary=True) == "512 B"
    assert f.format_bytes(1024**2 - 1, 1, binary=True) == "1.0 MiB"


class Wrapping(int):
    """A number of fixed width whose absolute value overflows, as numpy's int8 of -128 does."""

    def __abs__(self):
        return self

    def __neg__(self):
        return self


def test_a_number_whose_absolute_value_overflows_is_formatted_right():
    assert f.format_bytes(Wrapping(-128)) == "-128 B"
    assert f.humanize_number(Wrapping(-128)) == "-128"
    assert f.format_duration(Wrapping(-128)) == "-2m 8s"


def test_headers_that_come_first_are_known_and_text_is_no_row():
    rows, headers = [["load", 1], ["fit", 2]], ["step", "n"]
    assert f.format_table(headers, rows) == f.format_table(rows, headers)
    for wrong in (["ab", "cd"], [["a", "b"], "cd"]):
        with pytest.raises(TypeError, match=r"format_table\(rows, headers\)"):
            f.format_table(wrong)
    with pytest.raises(TypeError, match="text"):
        f.format_table(["ab"], ["n"])
