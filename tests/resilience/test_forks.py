"""What a forked child may rely on: its own connections, free locks, and the permits of its own thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from tests.forked_children import hung_children, outcome_in_child

from ops.resilience import (
    CircuitBreaker,
    CircuitState,
    ConnectionPool,
    HTTPClient,
    RateLimiter,
    Semaphore,
    SlidingWindowLimiter,
    retry,
    set_retry_hooks,
)

pytest.importorskip("httpx")
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def _failing() -> None:
    raise OSError


def _breaker() -> Callable[[], object]:
    breaker = CircuitBreaker(failure_threshold=1e9)

    def use() -> None:
        with pytest.raises(OSError):
            breaker.call(_failing)

    return use


def _bulkhead() -> Callable[[], object]:
    bulkhead = Semaphore(2)

    def use() -> None:
        with bulkhead:
            pass

    return use


def _retried() -> Callable[[], object]:
    set_retry_hooks([])  # log streams of the standard library do not survive every fork
    call = retry(2, initial_delay=0, reraise=True)(_failing)

    def use() -> None:
        with pytest.raises(OSError):
            call()
        call.get_stats()

    return use


def _pool() -> Callable[[], object]:
    pool = ConnectionPool()
    pool.client  # noqa: B018 - it is built with the first use
    return lambda: pool.client


def _client() -> Callable[[], object]:
    client = HTTPClient()
    return client._built


RECIPES: dict[str, Callable[[], Callable[[], object]]] = {
    "RateLimiter": lambda: RateLimiter(1e9, burst=1e9).try_acquire,
    "SlidingWindowLimiter": lambda: SlidingWindowLimiter(1000, 1e-9).try_acquire,
    "CircuitBreaker": _breaker,
    "Semaphore": _bulkhead,
    "ConnectionPool": _pool,
    "HTTPClient": _client,
    "AsyncHTTPClient": _client,  # the same lock; its connections belong to a loop
    "retry": _retried,  # no class, and its counts have a lock
}


@pytest.fixture(autouse=True)
def restored_hooks() -> Iterator[None]:
    yield
    set_retry_hooks(None)


@pytest.mark.parametrize("name", RECIPES)
def test_a_child_may_use_what_other_threads_were_using(name) -> None:
    assert hung_children(RECIPES[name]()) == 0


def test_a_child_has_the_permits_of_the_thread_that_forked_and_no_others() -> None:
    bulkhead = Semaphore(3)
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with bulkhead:
            inside.set()
            leave.wait(60)

    thread = threading.Thread(target=other)
    thread.start()
    inside.wait(60)
    with bulkhead:
        assert bulkhead.get_stats().active == 2
        assert outcome_in_child(lambda: bulkhead.get_stats().active) == "1"
    leave.set()
    thread.join(60)


def test_a_child_does_not_wait_for_probes_of_its_parents_threads() -> None:
    breaker = CircuitBreaker(1, recovery_timeout=0)
    with pytest.raises(OSError):
        breaker.call(_failing)
    probing, leave = threading.Event(), threading.Event()

    def probe() -> None:
        probing.set()
        leave.wait(60)

    thread = threading.Thread(target=breaker.call, args=(probe,))
    thread.start()
    probing.wait(60)
    assert breaker.state is CircuitState.HALF_OPEN
    assert outcome_in_child(lambda: breaker.call(lambda: "probed")) == "probed"
    leave.set()
    thread.join(60)


def test_a_wait_of_a_parents_thread_does_not_hold_up_the_window_in_a_child() -> None:
    window = SlidingWindowLimiter(1, 0.01)
    window.acquire()
    window._reserve(1, None)  # of a thread that is not in the child
    assert outcome_in_child(window.acquire) == "True"


@pytest.mark.parametrize("shared", ["own client", "pool"])
def test_a_child_and_its_parent_have_connections_of_their_own(server, reply, shared) -> None:
    server.answer = lambda asked: reply(200, asked[1].encode(), {"Content-Type": "text/plain"})
    with ConnectionPool() as pool:
        given = {} if shared == "own client" else {"client": pool.client}
        client = HTTPClient(server.url, retries=0, timeout=60, **given)
        assert client.get("/warm") == "/warm"
        before = _local_ports(client)
        [path, *ports] = outcome_in_child(
            lambda: f"{client.get('/child')} {' '.join(_local_ports(client))}"
        ).split()
        assert path == "/child"
        assert not set(ports) & set(before)
        assert client.get("/parent") == "/parent"
        assert _local_ports(client) == before
        client.close()


def test_a_child_refuses_a_client_of_others_that_its_parent_has_used(server, reply) -> None:
    import httpx

    server.replies(reply(200, b"ok", {"Content-Type": "text/plain"}))
    with httpx.Client() as given:
        used, unused = HTTPClient(server.url, client=given), HTTPClient(server.url, client=given)
        assert used.get("/") == "ok"
        assert "HTTPError" in outcome_in_child(lambda: used.get("/"))
        assert outcome_in_child(lambda: unused._built() is given) == "True"
        assert used.get("/") == "ok"
    fake = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(204)))
    with HTTPClient(server.url, client=fake) as pretended:
        assert pretended.get("/") is None
        assert outcome_in_child(lambda: pretended.get("/")) == "None"
    fake.close()


def _local_ports(client: HTTPClient) -> list[str]:
    connections = client._client._transport._pool.connections
    streams = [c._connection._network_stream for c in connections]
    return [str(s.get_extra_info("socket").getsockname()[1]) for s in streams]
