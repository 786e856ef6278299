"""Errors on their way: through a real process pool, and the line that installs what is missing."""

import concurrent.futures
import json
import multiprocessing
import pathlib
import pickle
import subprocess
import sys
import threading

import pytest

from ops.foundation import (
    ConflictError,
    FileLock,
    HashAlgorithm,
    LockTimeout,
    OpsError,
    PathEscapesRootError,
    calculate_file_hash,
    calculate_hash,
    create_error_response,
    hash_password,
    needs_rehash,
    safe_join,
    verify_password,
    wrap_exception,
)


@pytest.fixture(scope="module")
def pool():
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as executor:
        yield executor


def test_a_lock_timeout_comes_back_whole_from_a_process_pool(pool, tmp_path):
    path = tmp_path / "l"
    with FileLock(path):
        # A lock that is sent to another process is another holder of the same file.
        error = pool.submit(FileLock(path, timeout=0).acquire).exception(60)
    assert type(error) is LockTimeout
    assert isinstance(error, TimeoutError)
    assert (error.code, str(path) in error.message) == ("LOCK_TIMEOUT", True)


def test_a_refused_name_comes_back_whole_from_a_process_pool(pool, tmp_path):
    error = pool.submit(safe_join, tmp_path, "../x").exception(60)
    assert type(error) is PathEscapesRootError
    assert "'..'" in str(error)
    assert isinstance(error, OpsError)
    assert error.context.timestamp.tzinfo is not None


def test_blake3_and_xxh3_are_those_of_their_libraries(tmp_path):
    blake3, xxhash = pytest.importorskip("blake3"), pytest.importorskip("xxhash")
    file = tmp_path / "f"
    file.write_bytes(b"abc" * 100_000)
    for algorithm, digest in (
        (HashAlgorithm.BLAKE3, blake3.blake3(file.read_bytes()).hexdigest()),
        (HashAlgorithm.XXH3_128, xxhash.xxh3_128(file.read_bytes()).hexdigest()),
    ):
        assert calculate_hash(file.read_bytes(), algorithm) == digest
        assert calculate_file_hash(file, algorithm) == digest


def test_an_argon2_hash_is_told_by_its_own_text():
    pytest.importorskip("argon2")
    stored = hash_password("secret", scheme="argon2")
    assert stored.startswith("$argon2id$")
    assert verify_password("secret", stored)
    assert not verify_password("Secret", stored)
    assert not needs_rehash(stored)


@pytest.mark.parametrize(
    ("module", "call", "extra"),
    [
        ("blake3", "calculate_hash('x', 'blake3')", "ops-foundation[fast]"),
        ("xxhash", "calculate_hash('x', 'xxh3_128')", "ops-foundation[fast]"),
        ("argon2", "hash_password('x', scheme='argon2')", "ops-foundation[password]"),
        ("argon2", "verify_password('x', '$argon2id$v=19$m=8,t=1,p=1$AA$AA')", "[password]"),
    ],
)
def test_a_missing_library_is_an_import_error_with_the_line_that_installs_it(module, call, extra):
    program = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "from ops.foundation import *\n"
        f"try: {call}\n"
        "except ImportError as error: print(error)"
    )
    said = subprocess.check_output([sys.executable, "-c", program], text=True)
    assert module in said
    assert f'{extra}"' in said
    assert "pip install" in said


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no text")


def test_an_error_without_a_text_does_not_hide_itself():
    wrapped = wrap_exception(Unprintable(), message="loading")
    assert str(wrapped) == "loading: <Unprintable whose text raised RuntimeError>"
    assert str(OpsError(ValueError("wrong"))) == "wrong"


def test_one_suggestion_may_be_given_as_it_is():
    assert str(OpsError("Bad.", suggestions="Do this.")) == "Bad. Do this."


def test_what_json_does_not_know_becomes_text_in_a_reply():
    error = OpsError("m").with_context(path=pathlib.PurePosixPath("a"), tags={1}, deep=[{2: b"x"}])
    details = {"path": "a", "tags": [1], "deep": [{"2": "b'x'"}]}
    assert json.loads(json.dumps(error.to_dict()))["context"]["details"] == details
    assert json.loads(json.dumps(create_error_response(error)))["error"]["details"] == details
    plain = create_error_response("CODE", "m", {"path": pathlib.PurePosixPath("a")})
    assert json.loads(json.dumps(plain))["error"]["details"] == {"path": "a"}


class NeedsTwo(Exception):
    """Pickles, and breaks the pool that unpickles it."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def test_what_cannot_be_pickled_travels_as_text():
    error = ConflictError("m", expected=threading.Lock(), actual=NeedsTwo(1, 2))
    error.with_context(lock=threading.Lock(), size=3)
    back = pickle.loads(pickle.dumps(error))
    assert back.message == "m"
    assert back.expected.startswith("lock: <")
    assert str(back.actual) == "NeedsTwo: 1 and 2"
    assert isinstance(back.actual, OpsError)
    assert back.context.details["size"] == 3
    assert "lock" in back.context.details["lock"]
