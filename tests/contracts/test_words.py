"""Refused words become fewer: none comes back, and a file may be split on the way."""

from __future__ import annotations

import pathlib

from tools import words


def tree(root: pathlib.Path, text: str) -> pathlib.Path:
    folder = root / "packages/ops-x/src/ops/x"
    folder.mkdir(parents=True)
    (folder / "a.py").write_text(text, encoding="utf-8")
    return root


def test_words_are_found_in_names_and_in_text_but_not_inside_others(tmp_path) -> None:
    root = tree(
        tmp_path, 'def whoever_places(): "Nobody heard."\nreplaced = turnip = AsideRoom = 1\n'
    )
    (hits,) = words.found(root).values()
    assert hits == ["whoever", "places", "nobody", "heard", "room"]


def test_one_more_is_refused_and_one_less_is_not(tmp_path) -> None:
    hits = words.found(tree(tmp_path, "# nobody, somebody\n"))
    (file,) = hits
    assert words.increases(hits, {file: 2}) == []
    assert words.increases(hits, {file: 3}) == []
    (fault,) = words.increases(hits, {file: 1})
    assert "2 refused words, 1 are listed: 'nobody' (1), 'somebody' (1)" in fault
    assert len(words.increases(hits, {})) == 1


def test_a_file_may_be_renamed(tmp_path) -> None:
    hits = words.found(tree(tmp_path, "# nobody\n"))
    assert words.increases(hits, {"packages/ops-x/src/ops/x/old.py": 1}) == []
    assert words.increases(hits, {"packages/ops-y/src/ops/y/a.py": 1}) != []
