"""Configurations come back as they were, and errors say where they are."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import subprocess
import sys
import tempfile
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.serialize import ConfigError, YamlConfig

pytest.importorskip("yaml")


class Color(enum.Enum):
    RED = "red"
    BLUE = 2


@dataclass
class Data:
    path: Path
    weights: tuple[float, int] = (0.5, 1)
    tags: set[str] = field(default_factory=set)


@dataclass
class Config(YamlConfig):
    name: str
    data: Data
    color: Color = Color.RED
    when: dt.datetime | None = None
    mode: Literal["fast", "slow", 3] = "fast"
    parts: list[Data] = field(default_factory=list)
    table: dict[str, Data] = field(default_factory=dict)
    either: int | str = 0  # a number or a word
    rate: float = 1.0
    day: dt.date = dt.date(2026, 1, 1)
    wait: dt.timedelta = dt.timedelta(0)
    ident: uuid.UUID = field(default_factory=lambda: uuid.UUID(int=1))
    flag: bool = False


text = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
datas = st.builds(
    Data,
    path=text.filter(lambda t: t and "\0" not in t).map(Path),
    weights=st.tuples(st.floats(allow_nan=False, allow_infinity=False), st.integers()),
    tags=st.sets(text),
)
configs = st.builds(
    Config,
    name=text,
    data=datas,
    color=st.sampled_from(Color),
    when=st.none() | st.datetimes(timezones=st.just(dt.UTC)),
    mode=st.sampled_from(["fast", "slow", 3]),
    parts=st.lists(datas, max_size=3),
    table=st.dictionaries(text, datas, max_size=3),
    either=st.integers() | text,
    rate=st.floats(allow_nan=False),
    day=st.dates(),
    ident=st.uuids(),
    flag=st.booleans(),
)


@given(configs)
def test_every_configuration_comes_back_equal_in_value_and_type(config) -> None:
    again = Config.from_yaml_text(config.to_yaml_text())
    assert again == config
    for one in dataclasses.fields(Config):
        assert type(getattr(again, one.name)) is type(getattr(config, one.name))
    assert Config.from_yaml_text(config.to_yaml_text(with_comments=True)) == config


VALID = "name: x\ndata:\n  path: /a\n"


@pytest.mark.parametrize(
    ("document", "place", "reason"),
    [
        ("", "", "empty"),
        ("- 1\n", "line 1", "no mapping"),
        ("name: x\n", "line 1", "needs data"),
        (VALID + "colour: RED\n", "line 4, column 1", "did you mean 'color'"),
        (VALID + "name: y\n", "line 4", "twice"),
        ("name: 5\ndata: {path: a}\n", "$.name (line 1, column 7)", "quotes"),
        ("name: x\ndata:\n  path: 5\n", "$.data.path (line 3, column 9)", "Path"),
        (VALID + "color: GREEN\n", "$.color", "RED"),
        (VALID + "mode: 4\n", "$.mode", "none of"),
        (VALID + "rate: quick\n", "$.rate", "no float"),
        (VALID + "rate: true\n", "$.rate", "no float"),
        (VALID + "flag: 1\n", "$.flag", "no bool"),
        (VALID + "parts: {}\n", "$.parts", "no list"),
        (VALID + "parts: [{path: a}, {path: [1]}]\n", "$.parts[1].path", "one value"),
        (VALID + "table: {a: {path: b, weights: [1.0]}}\n", "$.table.a.weights", "where 2 belong"),
        (VALID + "when: never\n", "$.when", ""),
        (VALID + "name: [\n", "", "no valid YAML"),
        (VALID + "either: !!python/object/apply:os.system [ls]\n", "", ""),
    ],
)
def test_what_is_wrong_is_named_with_its_place(document, place, reason) -> None:
    with pytest.raises(ConfigError) as caught:
        Config.from_yaml_text(document)
    assert place in str(caught.value)
    assert reason in str(caught.value)


def test_short_floats_and_whole_numbers_are_floats() -> None:
    assert Config.from_yaml_text(VALID + "rate: 1e-3\n").rate == 0.001
    assert Config.from_yaml_text(VALID + "rate: 3\n").rate == 3.0


def test_merge_keys_and_anchors_work() -> None:
    document = "name: x\ndata: &d {path: /a}\nparts: [*d, {<<: *d, tags: [t]}]\n"
    parts = Config.from_yaml_text(document).parts
    assert parts == [Data(Path("/a")), Data(Path("/a"), tags={"t"})]


def test_the_environment_is_used_only_when_asked(monkeypatch) -> None:
    monkeypatch.setenv("HOME_OF_DATA", "/srv")
    document = "name: ${NAME:-none}\ndata: {path: '${HOME_OF_DATA}/d'}\nrate: ${RATE:-2.5}\n"
    assert Config.from_yaml_text("name: ${X}\ndata: {path: a}\n").name == "${X}"
    filled = Config.from_yaml_text(document, env=True)
    assert (filled.name, filled.data.path, filled.rate) == ("none", Path("/srv/d"), 2.5)
    with pytest.raises(ConfigError, match="MISSING is not set"):
        Config.from_yaml_text("name: ${MISSING}\ndata: {path: a}\n", env=True)


def test_comments_of_fields_are_written_out() -> None:
    config = Config("x", Data(Path("a")))
    assert "# a number or a word\neither: 0\n" in config.to_yaml_text(with_comments=True)


def test_a_failed_write_leaves_the_old_file(tmp_path) -> None:
    path = tmp_path / "sub" / "c.yaml"
    Config("x", Data(Path("a"))).to_yaml(path)
    broken = Config("y", Data(Path("a")))
    broken.either = object()  # type: ignore[assignment]
    with pytest.raises(ConfigError, match=r"\$.either"):
        broken.to_yaml(path)
    assert Config.from_yaml(path).name == "x"


def test_a_class_that_is_no_dataclass_says_so() -> None:
    class Plain(YamlConfig):
        pass

    with pytest.raises(ConfigError, match="@dataclass"):
        Plain().to_yaml_text()


def test_the_example_of_the_documents() -> None:
    @dataclass
    class MyConfig(YamlConfig):
        integer: int = 0
        string: str = "random"

    config = MyConfig(integer=123, string="hello")
    tempdir = tempfile.TemporaryDirectory()
    out_path = Path(tempdir.name).joinpath("my_config.yaml")
    config.to_yaml(file_path=out_path)
    assert out_path.exists()
    loaded_config = MyConfig.from_yaml(file_path=out_path)
    assert loaded_config.integer == config.integer
    assert loaded_config.string == config.string
    tempdir.cleanup()


def test_without_the_extra_the_error_names_it() -> None:
    program = (
        "import sys; sys.modules['yaml'] = None\n"
        "from dataclasses import dataclass\n"
        "from ops.serialize import YamlConfig\n"
        "@dataclass\nclass C(YamlConfig):\n    x: int = 0\n"
        "try: C().to_yaml_text()\n"
        "except ImportError as error: print(error)"
    )
    out = subprocess.check_output([sys.executable, "-c", program], text=True)
    assert 'pip install "ops-serialize[yaml]"' in out


T = TypeVar("T")


@dataclass
class Box(Generic[T]):
    value: T
    more: list[T] = field(default_factory=list)


@dataclass
class Boxes(YamlConfig):
    one: Box[int]
    other: Box[str] | None = None
    free: Box | None = None


def test_generic_dataclasses_are_read_with_what_they_were_given():
    boxes = Boxes(Box(1, [2]), Box("a"), Box("b"))
    assert Boxes.from_yaml_text(boxes.to_yaml_text()) == boxes
    with pytest.raises(ConfigError, match=r"\$\.one\.more\[0\].*line 1.*no int"):
        Boxes.from_yaml_text("one: {value: 1, more: [x]}")


@dataclass
class Kinds(YamlConfig):
    when: dt.datetime | None = None
    price: decimal.Decimal = decimal.Decimal(0)
    wait: dt.timedelta = dt.timedelta(0)
    free: Any = None


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("wait: 0\nwhen: 2024-13-01", "line 2"),
        ("price: abc", r"\$.price \(line 1"),
        ("wait: 1e300", r"\$.wait \(line 1"),
        ("free: " + "[" * 5000 + "]" * 5000, "nested too deeply"),
    ],
)
def test_what_no_type_takes_is_an_error_with_its_place(text, place):
    with pytest.raises(ConfigError, match=place):
        Kinds.from_yaml_text(text)


def test_text_without_a_utf8_form_is_refused_when_it_is_written(tmp_path):
    with pytest.raises(ConfigError, match=r"\$.free: .* no UTF-8 form"):
        Kinds(free="\ud800").to_yaml(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


@dataclass
class Tree(YamlConfig):
    children: list[Tree] = field(default_factory=list)


def test_aliases_of_aliases_do_not_fill_the_memory():
    lines = ["children:", "- &t0 {children: []}"]
    lines += [f"- &t{i} {{children: [{', '.join([f'*t{i - 1}'] * 9)}]}}" for i in range(1, 12)]
    with pytest.raises(ConfigError, match="aliases"):
        Tree.from_yaml_text("\n".join(lines))
    assert len(Tree.from_yaml_text("\n".join(lines[:4])).children[2].children) == 9
