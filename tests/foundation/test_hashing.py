"""Digests of content, checksums, signatures, ids and passwords."""

import datetime as dt
import hashlib
import pathlib
import subprocess
import sys
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.foundation import hashing as h
from ops.foundation import passwords

ATOMS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
VALUES = st.recursive(ATOMS, lambda v: st.lists(v) | st.dictionaries(st.text(), v), max_leaves=10)


def test_types_and_borders_are_told_apart():
    values = [1, 1.0, "1", b"1", True, [1], (1,), {1}, ["ab"], ["a", "b"], None, [], {}, "", [[]]]
    assert len({h.calculate_content_hash(v) for v in values}) == len(values)


@given(st.dictionaries(st.text(), VALUES))
def test_the_order_of_keys_does_not_matter(value):
    other = dict(reversed(value.items()))
    assert h.calculate_content_hash(value) == h.calculate_content_hash(other)


def test_every_process_and_hash_seed_gives_the_same_digest():
    code = (
        "from ops.foundation import calculate_content_hash as c;"
        "print(c({'b': {'x', 'y', ('z', 1)}, 'a': [1.5, None]}))"
    )
    digests = {
        subprocess.check_output(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, text=True
        )
        for seed in ("0", "1", "77")
    }
    assert len(digests) == 1


def test_arrays_that_differ_in_the_middle_differ():
    np = pytest.importorskip("numpy")
    one = np.zeros(100_000)
    two = one.copy()
    two[50_000] = 1
    assert h.calculate_content_hash(one) != h.calculate_content_hash(two)
    assert h.calculate_content_hash(one) != h.calculate_content_hash(one.reshape(100, 1000))
    assert h.calculate_content_hash(one) != h.calculate_content_hash(one.astype("f4"))
    assert h.calculate_content_hash(one) == h.calculate_content_hash(one.copy())


def test_tables_differ_by_any_cell_and_label():
    pd = pytest.importorskip("pandas")
    one = pd.DataFrame({"a": [1, 2, 3], "b": ["x", None, "z"]})
    same = h.calculate_content_hash(one)
    assert same == h.calculate_content_hash(one.copy())
    assert same != h.calculate_content_hash(one.assign(b=["x", "y", "z"]))
    assert same != h.calculate_content_hash(one.rename(columns={"a": "c"}))
    assert same != h.calculate_content_hash(one.set_index("a"))


def test_what_contains_itself_or_has_no_name_is_refused():
    loop = []
    loop.append(loop)
    with pytest.raises(ValueError, match="contains itself"):
        h.calculate_content_hash(loop)
    with pytest.raises(TypeError, match="content digest"):
        h.calculate_content_hash(lambda: 1)


@given(st.binary())
def test_digests_are_those_of_hashlib(data):
    assert h.calculate_hash(data) == hashlib.sha256(data).hexdigest()
    assert h.calculate_hash(data, "blake2b") == hashlib.blake2b(data).hexdigest()


def test_text_is_data_and_only_a_path_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("hello").write_bytes(b"other")
    assert h.verify_checksum("hello", hashlib.sha256(b"hello").hexdigest())
    assert h.verify_checksum(pathlib.Path("hello"), hashlib.sha256(b"other").hexdigest())
    assert not h.verify_checksum("hello", hashlib.sha256(b"other").hexdigest())


@pytest.mark.parametrize("algorithm", ["sha256", "sha3_512", "blake2b", "blake2s"])
def test_a_signature_fits_one_message_and_one_key(algorithm):
    signature = h.create_signature("message", "k" * 100, algorithm)
    assert h.verify_signature("message", signature, "k" * 100, algorithm)
    assert not h.verify_signature("massage", signature, "k" * 100, algorithm)
    assert not h.verify_signature("message", signature, "k" * 99, algorithm)


def test_ids_have_exactly_the_parts_that_were_asked_for():
    made = h.generate_id("job_", 12)
    assert made.startswith("job_")
    assert len(made) == 16
    assert len({h.generate_id(length=12) for _ in range(10_000)}) == 10_000


def test_uuid7_of_one_process_increase_and_are_valid():
    made = [h.generate_uuid7() for _ in range(10_000)]
    assert made == sorted(set(made))
    assert {(u.version, u.variant) for u in map(uuid.UUID, made)} == {(7, uuid.RFC_4122)}
    assert uuid.UUID(h.generate_uuid()).version == 4


def test_a_password_fits_its_hash_only():
    stored = h.hash_password("secret")
    assert h.verify_password("secret", stored)
    assert not h.verify_password("Secret", stored)
    assert not h.needs_rehash(stored)
    with pytest.raises(ValueError, match="no password hash"):
        h.verify_password("secret", "plain")


@pytest.mark.parametrize(
    "make", [h.generate_token, lambda nbytes: h.generate_api_key(nbytes=nbytes)]
)
def test_a_secret_of_no_bytes_is_refused(make):
    with pytest.raises(h.ValidationError, match="no secret"):
        make(0)


def test_text_that_is_no_utf8_is_a_wrong_signature_and_no_other_error():
    assert not h.verify_signature("a", "\udc80", "key")
    assert not h.verify_checksum("a", "\udc80")


def test_a_signature_of_an_unknown_algorithm_names_the_known_ones():
    with pytest.raises(h.ValidationError, match="known are"):
        h.create_signature("a", "key", "rot13")


@pytest.mark.parametrize(
    "stored",
    [
        "$argon2garbage",
        "$argon2id$v=19$m=4194304,t=3,p=4$c29tZXNhbHRzb21lc2FsdA$" + "A" * 43,
        "$argon2id$v=19$m=65536,t=100000,p=4$c29tZXNhbHRzb21lc2FsdA$" + "A" * 43,
        "$scrypt$ln=17,r=8,p=999$AAAAAAAAAAAAAAAAAAAAAA$" + "A" * 43,
    ],
)
def test_a_stored_string_cannot_ask_for_the_machine(stored):
    with pytest.raises(h.ValidationError):
        h.verify_password("x", stored)


def test_what_is_masked_counts_and_what_lies_between_fields_does_not():
    np = pytest.importorskip("numpy")
    one, other = np.ma.array([1, 999_999]), np.ma.array([1, 5], mask=[0, 1])
    assert h.calculate_content_hash(one) != h.calculate_content_hash(other)
    padded = np.zeros(2, np.dtype([("a", "i1"), ("b", "f8")], align=True))
    dirty = padded.copy()
    dirty.view(np.uint8)[1] = 7
    assert h.calculate_content_hash(padded) == h.calculate_content_hash(dirty)
    dirty["b"] = 1
    assert h.calculate_content_hash(padded) != h.calculate_content_hash(dirty)


def test_categories_and_their_order_count():
    pd = pytest.importorskip("pandas")
    tables = [
        pd.Series(pd.Categorical(["a"], categories, ordered=ordered))
        for categories, ordered in ((["a"], False), (["a", "b"], False), (["a", "b"], True))
    ]
    assert len({h.calculate_content_hash(t) for t in tables}) == 3


class Zone(dt.tzinfo):
    """A zone without a text of its own."""

    def utcoffset(self, _):
        return dt.timedelta(hours=1)


def test_a_zone_whose_text_is_an_address_is_refused():
    with pytest.raises(TypeError, match="address"):
        h.calculate_content_hash(dt.time(tzinfo=Zone()))


def test_a_suffix_or_length_in_the_wrong_position_is_refused_with_the_right_spelling():
    with pytest.raises(TypeError, match="suffix='_x'"):
        h.generate_id("job_", "_x")
    with pytest.raises(TypeError, match="length=12"):
        h.generate_id(12)


@pytest.fixture
def quick_scrypt(monkeypatch):
    monkeypatch.setattr(passwords, "_LOG_N", 4)


@pytest.mark.usefixtures("quick_scrypt")
def test_a_password_is_the_same_in_both_forms_of_its_letters():
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    assert h.verify_password(decomposed, h.hash_password(composed))
    assert h.verify_password(composed, h.hash_password(decomposed))
    assert not h.verify_password("cafe", h.hash_password(composed))


@pytest.mark.usefixtures("quick_scrypt")
def test_a_hash_from_before_passwords_were_normalized_still_fits(monkeypatch):
    decomposed = "cafe\u0301"
    with monkeypatch.context() as patch:
        patch.setattr(passwords, "_normalized", str)
        old = h.hash_password(decomposed)
    assert h.verify_password(decomposed, old)


def test_a_password_that_is_no_unicode_is_refused_without_its_text():
    for use in (h.hash_password, lambda text: h.verify_password(text, "$scrypt$")):
        with pytest.raises(ValueError, match="no valid Unicode") as caught:
            use("hunter2\ud800")
        assert "hunter2" not in str(caught.value)
