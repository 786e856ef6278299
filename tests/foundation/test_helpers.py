"""Decorators, dicts and lists, lazy imports, errors, cost of the import."""

import asyncio
import io
import json
import logging
import pickle
import subprocess
import sys
import threading

import pytest

from ops.foundation import (
    LazyImport,
    MissingExtraError,
    Timer,
    create_error_response,
    deprecated,
    errors,
    flatten_dict,
    lazy_property,
    merge_dicts,
    safe_get,
    setup_logging,
    singleton,
    timer,
)


def test_a_singleton_stays_a_class_and_is_made_once():
    made = []

    @singleton
    class Connection:
        def __init__(self, name="x"):
            made.append(name)

    found = []
    threads = [threading.Thread(target=lambda: found.append(Connection())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert isinstance(Connection, type)
    assert isinstance(found[0], Connection)
    assert len(set(map(id, found))) == len(made) == 1


def test_merging_changes_no_argument():
    one, two = {"a": {"b": [1]}}, {"a": {"c": 2}}
    merged = merge_dicts(one, two)
    merged["a"]["b"].append(9)
    assert merged == {"a": {"b": [1, 9], "c": 2}}
    assert (one, two) == ({"a": {"b": [1]}}, {"a": {"c": 2}})


def test_flattening_never_loses_a_value():
    assert flatten_dict({"a": {"b": 1}, "c": {}}) == {"a.b": 1, "c": {}}
    with pytest.raises(ValueError, match="Two paths"):
        flatten_dict({"a": {"b": 1}, "a.b": 2})
    assert safe_get({"a": [{"b": 1}]}, "a.0.b") == 1


def test_a_lazy_property_is_computed_once():
    class Thing:
        calls = 0

        @lazy_property
        def value(self):
            self.calls += 1
            return self.calls

    thing = Thing()
    assert (thing.value, thing.value) == (1, 1)


def test_timer_works_bare_named_and_as_a_block():
    seen = []

    @timer(name="data processing", on_done=lambda n, s: seen.append(n))
    def process(x):
        return x

    @timer
    def bare(x):
        return x

    assert process(1) == bare(1) == 1
    with timer(name="block") as measured:
        pass
    assert seen == ["data processing"]
    assert measured.elapsed_seconds > 0


def test_deprecated_warns_the_caller():
    @deprecated("use new")
    def old():
        return 1

    with pytest.warns(DeprecationWarning, match="use new") as caught:
        assert old() == 1
    assert caught[0].filename == __file__


def test_a_missing_extra_is_named():
    missing = LazyImport("no_such_module_here", extra="ops-serialize[pandas]")
    assert not missing.is_available
    with pytest.raises(MissingExtraError, match=r"ops-serialize\[pandas\]"):
        missing.read_csv  # noqa: B018 - the look-up is the test


ERRORS = [n for n in errors.__all__ if n.endswith(("Error", "LockTimeout"))]


@pytest.mark.parametrize("name", ERRORS)
def test_every_error_pickles(name):
    kind = getattr(errors, name)
    error = kind("m", "e") if name == "MissingExtraError" else kind("m", suggestions=["s"])
    copy = pickle.loads(pickle.dumps(error.with_context(operation="o", x=1)))
    assert type(copy) is kind
    assert (str(copy), copy.code, copy.context) == (str(error), error.code, error.context)


def test_an_error_response_has_no_text_of_foreign_errors():
    assert "secret" not in str(create_error_response(RuntimeError("secret")))


def test_importing_loads_nothing_but_the_standard_library_and_this_package():
    code = (
        "import sys; before = set(sys.modules); import ops.foundation as f;"
        "[getattr(f, n) for n in f.__all__];"
        "new = {m.partition('.')[0] for m in set(sys.modules) - before};"
        "print(sorted(new - set(sys.stdlib_module_names) - {'ops'}))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_importing_the_package_loads_none_of_its_modules_but_lazy():
    code = (
        "import sys, ops.foundation;print(sorted(m for m in sys.modules if m.startswith('ops.')))"
    )
    out = subprocess.check_output([sys.executable, "-c", code], text=True).strip()
    assert out == "['ops.foundation', 'ops.foundation.lazy']"


def test_each_subclass_of_a_singleton_has_an_instance_of_its_own():
    @singleton
    class Base:
        def __init__(self, name="base"):
            self.name = name

    class Child(Base):
        def __init__(self):
            super().__init__("child")
            self.made = getattr(self, "made", 0) + 1

    assert Child() is Child()
    assert Child() is not Base()
    assert (Base().name, Child().name, Child().made) == ("base", "child", 1)
    assert isinstance(Child(), Base)


def test_a_singleton_whose_init_failed_is_made_anew():
    attempts = []

    @singleton
    class Connection:
        def __init__(self, works):
            attempts.append(works)
            if not works:
                raise ConnectionError

    with pytest.raises(ConnectionError):
        Connection(False)
    assert Connection(True) is Connection(False)
    assert attempts == [False, True]


def test_a_deprecated_class_stays_a_class_and_warns_when_made_or_subclassed():
    @deprecated("use New")
    class Old:
        def __init__(self, x=0):
            self.x = x

    with pytest.warns(DeprecationWarning, match="use New") as caught:
        made = Old(3)
    assert (made.x, isinstance(made, Old), caught[0].filename) == (3, True, __file__)
    with pytest.warns(DeprecationWarning, match="use New"):

        class Child(Old):
            pass

    # Only what is deprecated warns: instances of the subclass do not.
    assert Child(4).x == 4


def test_a_deprecated_coroutine_function_warns_when_called_and_can_be_awaited():
    @deprecated("use new")
    async def old():
        return 5

    async def main():
        with pytest.warns(DeprecationWarning, match="use new"):
            coroutine = old()
        return await coroutine

    assert asyncio.run(main()) == 5
    assert old.__deprecated__ == "use new"


def test_a_deprecation_without_a_category_only_marks():
    @deprecated("later", category=None)
    def old():
        return 1

    assert (old(), old.__deprecated__) == (1, "later")


@pytest.fixture
def quiet_logger():
    logger = logging.getLogger("ops.test_setup_logging")
    yield logger.name
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


def test_logging_set_up_twice_writes_each_record_once(quiet_logger):
    first, second = io.StringIO(), io.StringIO()
    setup_logging("debug", stream=first, logger=quiet_logger)
    logger = setup_logging("debug", "%(levelname)s %(message)s", stream=second, logger=quiet_logger)
    logger.debug("hello")
    assert (first.getvalue(), second.getvalue()) == ("", "DEBUG hello\n")


def test_json_logs_are_an_object_a_line_with_extra_fields_and_the_error(quiet_logger):
    out = io.StringIO()
    logger = setup_logging(fmt="json", stream=out, logger=quiet_logger)
    logger.debug("not wanted")
    try:
        int("bad")
    except ValueError:
        logger.exception("failed %s", "twice", extra={"run": 7})
    (line,) = out.getvalue().splitlines()
    body = json.loads(line)
    assert (body["level"], body["message"], body["run"]) == ("ERROR", "failed twice", 7)
    assert "ValueError: invalid literal" in body["exception"]


class Mute:
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize("fmt", ["text", "json"])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_record_that_the_stream_cannot_encode_is_written_with_escapes(
    quiet_logger, capsys, fmt, encoding
):
    out = io.TextIOWrapper(io.BytesIO(), encoding)
    logger = setup_logging(fmt=fmt, stream=out, logger=quiet_logger)
    logger.warning("of %s", "caf\udce9 ü", extra={"value": Mute()})
    out.flush()
    (line,) = out.buffer.getvalue().decode(encoding).splitlines()
    assert "caf\\udce9" in line
    if fmt == "json":
        assert json.loads(line)["message"] == "of caf\udce9 ü"
    assert capsys.readouterr().err == ""  # where logging complains of a record that it lost


def test_a_logger_below_ops_is_silent_until_logging_is_set_up():
    code = "from ops.foundation import get_logger; get_logger('ops.x').error('boo')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == done.stderr == b""


def test_a_lazy_import_gives_every_name_of_its_module_load_included():
    lazy = LazyImport("json", extra="none")
    assert lazy.load is json.load
    assert lazy.import_module() is json


def test_a_second_positional_argument_of_flatten_dict_is_refused_with_both_spellings():
    nested = {"a": {"b": 1}}
    with pytest.raises(TypeError, match=r"separator='x' or parent_key='x'"):
        flatten_dict(nested, "x")
    assert flatten_dict(nested, separator="/") == flatten_dict(nested, sep="/") == {"a/b": 1}
    assert flatten_dict(nested, parent_key="x", sep="_") == {"x_a_b": 1}
    assert flatten_dict(nested, sep="") == {"ab": 1}
    with pytest.raises(TypeError, match="one of them"):
        flatten_dict(nested, sep="_", separator="_")


def test_one_timer_in_two_tasks_and_nested_measures_each_block():
    now, durations = [0.0], []
    shared = Timer("x", on_done=lambda _, seconds: durations.append(seconds), clock=lambda: now[0])
    inside, over = asyncio.Event(), asyncio.Event()

    async def first():
        with shared:
            now[0] = 2.0
            inside.set()
            await over.wait()

    async def second():
        await inside.wait()
        with shared:
            over.set()
            await asyncio.sleep(0)
            now[0] = 5.0

    async def both():
        await asyncio.gather(first(), second())

    asyncio.run(both())
    assert durations == [2.0, 3.0]
    durations.clear()
    with shared:
        now[0] = 6.0
        with shared:
            now[0] = 8.0
    assert durations == [2.0, 3.0]
