"""What can serve as a step: decorated, nested, async, partial and callable objects as well."""

import asyncio
import functools
import json
import os
import textwrap

import pytest

from ops.foundation import ValidationLevel, validate_step_function


def codes(function):
    return {i.code for i in validate_step_function(function).issues} - {"NO_ANNOTATION"}


def traced(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


def test_a_nested_function_is_valid_and_warned_about():
    def nested(data):
        return data

    result = validate_step_function(nested)
    assert result.valid
    assert [i.code for i in result.get_warnings()] == ["NOT_IMPORTABLE"]
    assert validate_step_function(lambda data: data).valid


def test_a_decorated_function_is_judged_by_what_it_wraps():
    assert validate_step_function(traced(os.path.join)).valid

    @traced
    def decorated(data, /):
        return data

    assert "POSITIONAL_ONLY" in codes(decorated)


def test_a_decorator_that_hides_the_signature_is_a_warning_only():
    def hide(function):
        def wrapper(*args, **kwargs):
            return function(*args, **kwargs)

        return wrapper

    result = validate_step_function(hide(json.dumps))
    assert result.valid
    assert "HIDDEN_INPUTS" in {i.code for i in result.get_warnings()}


def test_a_function_of_a_module_has_no_warning():
    assert codes(textwrap.shorten) == codes(json.dump) == set()


def test_what_cannot_be_called_by_name_is_an_error():
    def positional(a, /):
        return a

    def star(*items):
        return items

    for function in (positional, star):
        assert not validate_step_function(function).valid

    def harmless(a=1, /):
        return a

    assert validate_step_function(harmless).valid


def test_a_star_beside_names_is_a_trap_and_a_warning():
    def trap(data, *rest):
        return data, rest

    result = validate_step_function(trap)
    assert result.valid
    assert "VAR_POSITIONAL" in {i.code for i in result.get_warnings()}


def test_partials_methods_classes_and_callable_objects_are_understood():
    class Scale:
        def __init__(self, factor: int = 2):
            self.factor = factor

        def __call__(self, data: int) -> int:
            return data * self.factor

        async def wait(self, data: int) -> int:
            return data

    for function in (Scale, Scale(), Scale().wait, functools.partial(json.dumps, indent=1)):
        assert validate_step_function(function).valid
    assert "ASYNC" in codes(Scale().wait)
    assert "ASYNC" in codes(functools.partial(asyncio.sleep, 1))
    assert "NOT_CALLABLE" not in codes(Scale())


def test_an_async_callable_object_and_a_generator_are_told():
    class Later:
        async def __call__(self, data):
            return data

    def many(data):
        yield data

    assert "ASYNC" in codes(Later())
    assert "GENERATOR" in codes(many)


def test_missing_annotations_are_advice_and_no_warning():
    def bare(data, limit: int):
        return data, limit

    advice = [i for i in validate_step_function(bare).issues if i.level is ValidationLevel.INFO]
    assert [i.field for i in advice] == ["data", "return"]


@pytest.mark.parametrize("thing", [None, 5, "load", [print]])
def test_what_is_no_function_is_an_error_that_names_its_type(thing):
    (issue,) = validate_step_function(thing).get_errors()
    assert type(thing).__name__ in issue.message


def test_a_callable_without_a_readable_signature_is_a_warning():
    class Odd:
        __signature__ = 5

        def __call__(self, data):
            return data

    result = validate_step_function(Odd())
    assert result.valid
    assert "NO_SIGNATURE" in {i.code for i in result.get_warnings()}


def test_pickling_large_bound_data_keeps_nothing_and_an_error_of_reduce_is_a_finding():
    class Sealed:
        def __call__(self, data):
            return data

        def __reduce__(self):
            raise RuntimeError("sealed")

    assert "NOT_IMPORTABLE" in codes(Sealed())
    assert "NOT_IMPORTABLE" not in codes(functools.partial(json.dumps, b"x" * 1_000_000))
