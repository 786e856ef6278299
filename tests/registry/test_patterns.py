"""LIKE: what matches, and that no pattern makes it slow."""

import re
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.registry.errors import FilterError, InvalidValueError
from ops.registry.search import parser, patterns
from ops.registry.search.filters import Kind
from ops.registry.search.patterns import matcher

letters = st.text("abAB%_\\éK\n", max_size=12)


def naive(pattern, text, *, ignores_case, escapes=True):
    """Match as the definition says, with a regular expression that may try everything."""
    parts = patterns.pattern_parts(pattern, escapes=escapes)
    made = "".join(".*" if p is None else re.escape(p) or "." for p in parts)
    flags = re.DOTALL | (re.IGNORECASE if ignores_case else 0)
    return re.fullmatch(made, text, flags) is not None


@given(letters, letters, st.booleans(), st.booleans())
def test_a_pattern_matches_what_its_definition_says(pattern, text, ignores_case, escapes):
    """However the parts are looked for, the answer is that of trying everything."""
    accepts = matcher(pattern, ignores_case=ignores_case, escapes=escapes)
    assert accepts(text) == naive(pattern, text, ignores_case=ignores_case, escapes=escapes)


@pytest.mark.parametrize("part", ["a", "_", "a_", "_a_a"])
@pytest.mark.parametrize("ignores_case", [False, True])
def test_no_pattern_takes_more_than_one_pass_for_each_part(part, ignores_case):
    """With as many % as fit, a text that nearly matches is refused after a bounded number of steps.

    A matcher that tries each part at each place again would not end within the life of the machine.
    """
    count = patterns.MOST_CHARACTERS // (len(part) + 1) - 1
    accepts = matcher(f"%{part}" * count + "%b", ignores_case=ignores_case)
    assert not accepts("a" * 6_000)
    assert accepts("a" * 6_000 + "b")


def test_a_pattern_or_filter_that_is_too_long_is_refused():
    """Whoever sends one gets an error that names the limit, at its position in the filter."""
    long = "a" * (patterns.MOST_CHARACTERS + 1)
    with pytest.raises(InvalidValueError, match="1000 characters at most, not 1001"):
        matcher(long)
    with pytest.raises(FilterError, match="1000 characters at most") as caught:
        parser.parse_filter(f"name LIKE '{long}'", {"name": Kind.TEXT})
    assert caught.value.position == len("name LIKE ")
    with pytest.raises(FilterError, match="100000 characters at most"):
        parser.parse_filter("name = 'x' or " * 10_000, {"name": Kind.TEXT})


def test_a_search_holds_no_lock_while_its_filter_runs(context, monkeypatch):
    """Another thread searches, starts a run and logs while a filter of the first one still runs."""
    tracker = context.experiment_tracker
    experiment = tracker.create_experiment("e").experiment_id
    run = tracker.start_run(experiment, name="one").run_id
    seen = []

    def others():
        seen.append(tracker.search_runs([experiment], filter="name = 'one'")[0].run_id)
        tracker.log_metric(tracker.start_run(experiment).run_id, "a", 1.0)

    def slow(pattern, **_):
        def accepts(_):
            thread = threading.Thread(target=others)
            thread.start()
            thread.join(60)
            assert not thread.is_alive(), "the other thread waits for this filter"
            return True

        return accepts

    monkeypatch.setattr(parser, "matcher", slow)
    found = tracker.search_runs([experiment], filter="name LIKE '%'")
    assert [one.run_id for one in found] == seen == [run]
