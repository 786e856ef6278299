"""Starts of periods in UTC, over month ends and leap years."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.foundation import instants

MOMENTS = st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2200, 1, 1), timezones=st.just(dt.UTC))


@given(MOMENTS, st.integers(0, 600))
def test_months_ago_counts_months_and_gives_their_first_day(moment, n):
    start = instants.months_ago(n, relative_to=moment)
    assert (start.day, start.hour, start.microsecond) == (1, 0, 0)
    assert (moment.year - start.year) * 12 + moment.month - start.month == n


@given(MOMENTS)
def test_periods_contain_the_moment_and_weeks_start_on_monday(moment):
    week = instants.this_week(moment)
    assert week.weekday() == 0
    assert week <= moment < week + dt.timedelta(days=7)
    assert instants.last_week(relative_to=moment) == week - dt.timedelta(days=7)
    assert instants.days_ago(1, moment) == instants.last_day(moment)


def test_the_last_of_march_less_a_month_is_the_start_of_february():
    moment = dt.datetime(2024, 3, 31, 15, tzinfo=dt.UTC)
    assert instants.iso(instants.months_ago(1, moment)) == "2024-02-01T00:00:00+00:00"


def test_other_zones_are_converted_and_naive_moments_refused():
    cet = dt.timezone(dt.timedelta(hours=1))
    moment = dt.datetime(2024, 1, 1, 0, 30, tzinfo=cet)
    assert instants.this_day(moment) == dt.datetime(2023, 12, 31, tzinfo=dt.UTC)
    with pytest.raises(ValueError, match="no time zone"):
        instants.this_day(dt.datetime(2024, 1, 1))
