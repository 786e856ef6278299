"""The standard terms of the field: a refused word is found wherever a reader meets it."""

from __future__ import annotations

import pathlib

import pytest
from tools import words


def tree(root: pathlib.Path, text: str) -> pathlib.Path:
    folder = root / "packages/ops-x/src/ops/x"
    folder.mkdir(parents=True)
    (folder / "a.py").write_text(text, encoding="utf-8")
    return root


def test_no_word_is_refused() -> None:
    assert words.found() == []


def test_words_are_found_in_names_and_in_text_but_not_inside_others() -> None:
    text = 'def whoever_places(): "Nobody heard."\nreplaced = turnip = AsideRoom = 1\n'
    assert words.refused(text) == [
        (1, "whoever"),
        (1, "places"),
        (1, "nobody"),
        (1, "heard"),
        (2, "room"),
    ]


def test_a_phrase_is_found_across_the_end_of_a_line() -> None:
    assert words.refused("Writers of a file\n    take\n    turns.") == [(2, "take turns")]
    assert words.refused("It is written in\nplace.") == []


@pytest.mark.parametrize(
    "text",
    [
        "in place, into place, a decimal place",
        "math.floor(x), pc.floor_temporal(x)",
        "DataLogger(folder, lay_out_ahead=True)",
        "PlaceOptions, @ops_run_beats, beat_at",
        "SELECT path, place, size FROM @ops_files WHERE place IS NOT NULL",
    ],
)
def test_usual_senses_and_public_names_are_not_refused(text) -> None:
    assert words.refused(text) == []


def test_a_hit_names_file_line_word_and_the_standard_term(tmp_path) -> None:
    (hit,) = words.found(tree(tmp_path, "x = 1\n# nobody\n"))
    assert str(hit) == (
        "packages/ops-x/src/ops/x/a.py:2: 'nobody' is refused; "
        "write: another process, the holder, the caller, subscribers"
    )


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("all places", "offset"),
        ("They took turns.", "lock"),
        ("at that instant", "timestamp"),
        ("on two floors", "module"),
        ("laid out ahead", "pre-materialize"),
    ],
)
def test_each_form_of_a_word_is_explained(text, term) -> None:
    ((line, word),) = words.refused(text)
    assert f"write: {term}" in str(words.Hit("a.py", line, word))
