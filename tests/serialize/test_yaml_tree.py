"""What a YAML text says is read without guessing, within limits, and refused with a position."""

from __future__ import annotations

import dataclasses
import datetime as dt
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.serialize import ConfigError, YamlConfig

pytest.importorskip("yaml")
pytest.importorskip("pydantic")


@dataclass
class Camera:
    rate: int = 0
    gain: int = 0


@dataclass
class Rig(YamlConfig):
    left: Camera = field(default_factory=Camera)
    right: Camera = field(default_factory=Camera)
    extra: dict[str, int] = field(default_factory=dict)
    more: dict[str, int] = field(default_factory=dict)


@dataclass
class Loose(YamlConfig):
    a: Any = None
    flag: bool = False
    text: str = ""
    number: int = 0
    rate: float = 0.0
    when: dt.time | None = None
    names: list[str] = field(default_factory=list)
    table: dict[str, list[Any]] = field(default_factory=dict)
    either: bool | str = False


def read(text: str) -> Any:
    return Loose.from_yaml_text(f"a: {text}").a


def test_merge_keys_take_what_is_not_overridden() -> None:
    rig = Rig.from_yaml_text("left: &l {rate: 100, gain: 2}\nright:\n  <<: *l\n  gain: 3\n")
    assert rig.right == Camera(100, 3)
    rig = Rig.from_yaml_text("extra: &e {a: 1, b: 2}\nmore: {a: 5, <<: *e}\n")
    assert rig.more == {"a": 5, "b": 2}


def test_of_several_merged_mappings_the_earlier_wins() -> None:
    text = "{p: &p {a: 1, b: 1}, q: &q {a: 2, c: 2}, m: {<<: [*p, *q], c: 3}}"
    assert read(text)["m"] == {"a": 1, "b": 1, "c": 3}


@pytest.mark.parametrize(
    "text",
    [
        "{rate: 1, rate: 2}",
        "[{x: {rate: 1, rate: 2}}]",
        "{1: a, 1.0: b}",
        "{<<: {a: 1}, <<: {b: 1}}",
        "!!set {x, x}",
    ],
)
def test_keys_that_occur_twice_are_refused_everywhere(text: str) -> None:
    with pytest.raises(ConfigError, match=r"\$\.a.*twice"):
        read(text)


TRAPS = [
    (
        "number: 010",
        "$.number (line 1, column 9): 010 is the number 8 in YAML 1.1 (octal); write 10",
    ),
    ("a: 0777", "octal"),
    ("number: 12:30", "12:30 is a number to the base of 60"),
    ("when: 12:30:00", "base of 60"),
    ("a: [1, 1:30.5]", "$.a[1] (line 1, column 8)"),
    ("text: no", "$.text (line 1, column 7): no (a boolean in YAML) is no str; write it in quotes"),
    ("text: 5", "quotes"),
    ("text: 2024-01-01", "quotes"),
    ("text: 1e5", "quotes"),
    ("text: ~", "null is no str"),
    ("a: no", "$.a (line 1, column 4): no is the boolean false in YAML 1.1; write false or 'no'"),
    ("a: [x, {k: On}]", "$.a[1].k (line 1, column 12): On is the boolean true"),
    ("names: [DE, NO, SE, no]", "$.names[1] (line 1, column 13): NO (a boolean in YAML) is no str"),
    ("either: off", "off is the boolean false"),
    ("table: {no: []}", "the key no is the boolean false"),
    ("on: 1", "the key on is the boolean true"),
    ("a: {<<: {k: no}}", "no is the boolean false"),
]


@pytest.mark.parametrize(("text", "sentence"), TRAPS)
def test_what_yaml_reads_as_something_else_is_refused_with_a_sentence(
    text: str, sentence: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        Loose.from_yaml_text(text)
    assert sentence in str(caught.value)


def test_booleans_may_be_written_as_words_where_only_a_boolean_fits() -> None:
    assert [
        Loose.from_yaml_text(f"flag: {w}").flag for w in ("yes", "No", "ON", "off", "true")
    ] == [
        True,
        False,
        True,
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e3", 1000.0),
        (".5", 0.5),
        ("1_000", 1000),
        ("0x1F", 31),
        ("0b101", 5),
        ("-.inf", float("-inf")),
        ("08", "08"),
        ("0o17", "0o17"),
        ("'1'", "1"),
        ("!!str 1", "1"),
        ("!!int '7'", 7),
        ("!!float 7", 7.0),
        ("! 12", "12"),
        ("!!binary aGk=", b"hi"),
        ("!!set {x, y}", {"x", "y"}),
        ("2024-01-01", dt.date(2024, 1, 1)),
        ("2024-1-2 3:04:05.67 -1:30", None),
        ("[]", []),
        ("", None),
        ("|\n  x\n", "x\n"),
    ],
)
def test_scalars_mean_what_the_standard_says(text: str, value: Any) -> None:
    found = read(text)
    if value is None and text:
        zone = dt.timezone(-dt.timedelta(hours=1, minutes=30))
        value = dt.datetime(2024, 1, 2, 3, 4, 5, 670_000, zone)
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "a: !!python/object/apply:os.system [ls]",
            "!!python/object/apply:os.system is not allowed",
        ),
        ("a: !x 1", "!x is not allowed"),
        ("a: !!omap [x: 1]", "!!omap is not allowed"),
        ("flag: !!bool abc", "no value of !!bool"),
        ("a: !!int", "no value of !!int"),
        ("a: !!timestamp abc", "no value of !!timestamp"),
        ("a: 2024-13-01", "is no value"),
        ("[a]: 1", "a key must be one value"),
        ("? {x: 1}\n: 2", "a key must be one value"),
        ("a: *b", "alias"),
        ("a: &b [*b]", "contains itself"),
        ("a: 1\n---\na: 2", "second document"),
        ("a: 1\n  b: 2", "no valid YAML"),
        ("a: {<<: 1}", "merges a mapping"),
        ("a: \x01", "no valid YAML"),
        ("a: \ud800", "no text that YAML allows"),
        ("a: " + "[" * 300 + "]" * 300, "nested too deeply"),
        ("a: " + "{x: " * 300 + "}" * 300, "nested too deeply"),
        ("a: " + "9" * 5000, "is no value"),
        ("# only a comment", "empty"),
    ],
)
def test_every_refusal_is_a_config_error(text: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Loose.from_yaml_text(text)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    "data", ["a: é".encode("utf-16"), b"a: caf\xe9\n", b"a: \xff"], ids=["utf-16", "latin-1", "ff"]
)
def test_a_file_in_another_encoding_says_so(tmp_path: Any, data: bytes) -> None:
    (tmp_path / "c.yaml").write_bytes(data)
    with pytest.raises(ConfigError, match=r"c\.yaml is no UTF-8 text"):
        Loose.from_yaml(tmp_path / "c.yaml")


def test_a_byte_order_mark_is_no_content(tmp_path: Any) -> None:
    (tmp_path / "c.yaml").write_bytes("number: 3\n".encode("utf-8-sig"))
    assert Loose.from_yaml(tmp_path / "c.yaml").number == 3


def test_aliases_cannot_make_a_short_text_large() -> None:
    """Neither by many references to one long list, nor by references to references."""
    long = "a: [&x [" + ",".join("x" * 5000) + "], " + ",".join(["*x"] * 3300) + "]"
    lines = ["a:", "  - &l0 {a: 1}"]
    lines += [f"  - &l{i} {{p: *l{i - 1}, q: *l{i - 1}}}" for i in range(1, 40)]
    merged = ["a:", "  - &l0 {a: 1}"]
    merged += [f"  - &l{i} {{<<: *l{i - 1}, p{i}: *l{i - 1}}}" for i in range(1, 40)]
    for text in (long, "\n".join(lines), "\n".join(merged)):
        with pytest.raises(ConfigError, match="aliases expand"):
            Loose.from_yaml_text(text)


def test_a_few_aliases_are_fine() -> None:
    assert read("[&x {k: [1, 2]}, *x, *x]") == [{"k": [1, 2]}] * 3
    assert Loose.from_yaml_text("names: [&n x, *n]\ntext: *n").text == "x"


@given(st.text() | st.text("ab:-[]{}&*!'\"\n 019.|>#?%<~@,"))
def test_any_text_is_read_or_refused(text: str) -> None:
    for whole in (text, f"a: {text}", f"table: {text}"):
        try:
            config = Loose.from_yaml_text(whole)
        except ConfigError:
            continue
        assert repr(Loose.from_yaml_text(config.to_yaml_text())) == repr(config)


PROGRAM = """
import sys
from dataclasses import dataclass
import ops.serialize
from ops.serialize import YamlConfig
@dataclass
class C(YamlConfig):
    x: int = 0
assert not {"yaml", "pydantic", "pydantic_core"} & set(sys.modules)
assert C.from_yaml_text("x: 1").x == 1
assert "pydantic_core" in sys.modules
"""


def test_nothing_is_imported_before_a_configuration_is_read() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)


def test_the_parser_in_python_gives_what_libyaml_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    import yaml

    text = "left: &l {rate: 100, gain: 2}\nright: {<<: *l, gain: 3}\nextra: {a: 1}\n"
    quick = Rig.from_yaml_text(text)
    monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    assert Rig.from_yaml_text(text) == quick
    for wrong in ("left: {rate: x}", "left: {rates: 1}", "left: ["):
        with pytest.raises(ConfigError, match="line 1"):
            Rig.from_yaml_text(wrong)


def test_errors_carry_path_line_and_column() -> None:
    with pytest.raises(ConfigError) as caught:
        Rig.from_yaml_text("left:\n  rate: 1\nright:\n  gian: 2\n")
    error = caught.value
    assert (error.path, error.line, error.column) == ("$.right", 4, 3)
    assert "did you mean 'gain'?" in str(error)
    assert dataclasses.is_dataclass(Rig)
