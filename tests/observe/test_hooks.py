"""Hooks are a pipeline that may change data or veto."""

import pytest

from ops.observe import HooksManager, SignatureError


def test_each_hook_gets_what_the_one_before_returned_and_none_keeps_it():
    hooks = HooksManager()
    hooks.register("pre", lambda data: data + 1)
    hooks.register("pre", lambda data: None)
    hooks.register("pre", lambda hook_type, data: (hook_type, data))
    assert hooks.execute("pre", 1) == ("pre", 2)


def test_a_higher_priority_runs_earlier():
    hooks, seen = HooksManager(), []
    hooks.register("pre", lambda data: seen.append("low"))
    hooks.register("pre", lambda data: seen.append("high"), priority=1)
    hooks.execute("pre")
    assert seen == ["high", "low"]


def test_a_veto_reaches_the_caller_unchanged():
    hooks, veto = HooksManager(), ValueError("no")

    @hooks.register("pre")
    def refuse(data):
        raise veto

    with pytest.raises(ValueError, match="no") as caught:
        hooks.execute("pre", {})
    assert caught.value is veto


def test_a_hook_that_could_never_be_called_is_refused():
    with pytest.raises(SignatureError, match="must accept"):
        HooksManager().register("pre", lambda a, b, c: None)


def test_unregistering_and_clearing_remove_hooks():
    hooks = HooksManager()
    first = hooks.register("a", lambda data: data + 1)
    hooks.register("b", lambda data: data + 10)
    assert hooks.hook_count() == 2
    assert hooks.unregister("a", first)
    assert not hooks.unregister("a", first)
    assert hooks.execute("a", 1) == 1
    hooks.clear("b")
    assert hooks.hook_count() == 0
    hooks.register("a", lambda hook_type, data: f"{hook_type}{data}")
    assert hooks.execute("a", 1) == "a1"
    hooks.clear()
    assert hooks.execute("a", 1) == 1


def test_a_failing_hook_after_the_fact_is_logged_counted_and_passed_over(caplog):
    hooks = HooksManager()

    def fail(data):
        raise OSError("gone")

    hooks.register("post", fail, priority=1)
    hooks.register("post", lambda data: data | {"told": True})
    assert hooks.execute("post", {}, on_error="log") == {"told": True}
    assert hooks.hook_errors == 1
    assert "fail" in caplog.text


def test_an_object_whose_call_is_a_coroutine_is_no_hook():
    class Hook:
        async def __call__(self, data):
            return data

    with pytest.raises(SignatureError, match="asynchronous"):
        HooksManager().register("a", Hook())
