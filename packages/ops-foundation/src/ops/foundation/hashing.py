"""Digests, checksums and signatures, with one spelling for every algorithm.

The canonical digest of Python objects is in `ops.foundation.canonical`, identifiers are in
`ops.foundation.ids`, passwords in `ops.foundation.passwords`; all names are importable from here.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import pathlib
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias

from ops.foundation.canonical import calculate_content_hash
from ops.foundation.errors import MissingExtraError, ValidationError
from ops.foundation.ids import (
    generate_api_key,
    generate_id,
    generate_short_id,
    generate_token,
    generate_uuid,
    generate_uuid7,
)
from ops.foundation.passwords import hash_password, needs_rehash, verify_password

if TYPE_CHECKING:
    from collections.abc import Callable

    from ops.foundation.paths import StrPath

__all__ = [
    "HashAlgorithm",
    "calculate_content_hash",
    "calculate_file_hash",
    "calculate_hash",
    "create_signature",
    "generate_api_key",
    "generate_id",
    "generate_short_id",
    "generate_token",
    "generate_uuid",
    "generate_uuid7",
    "hash_password",
    "needs_rehash",
    "verify_checksum",
    "verify_password",
    "verify_signature",
]

# Anything with the buffer protocol; `collections.abc.Buffer` is newer than our oldest Python.
Data: TypeAlias = "str | bytes | bytearray | memoryview | Any"


class HashAlgorithm(StrEnum):
    """Known algorithms. MD5 and SHA1 are for checksums of others, not for security."""

    MD5 = "md5"
    SHA1 = "sha1"
    SHA256 = "sha256"
    SHA384 = "sha384"
    SHA512 = "sha512"
    SHA3_256 = "sha3_256"
    SHA3_512 = "sha3_512"
    BLAKE2B = "blake2b"
    BLAKE2S = "blake2s"
    BLAKE3 = "blake3"
    XXH3_128 = "xxh3_128"


def _blake3() -> Any:
    try:
        import blake3
    except ImportError as error:
        raise MissingExtraError("blake3", "ops-foundation[fast]") from error
    return blake3.blake3()


def _xxh3_128() -> Any:
    try:
        import xxhash
    except ImportError as error:
        raise MissingExtraError("xxhash", "ops-foundation[fast]") from error
    return xxhash.xxh3_128()


def _known(algorithm: HashAlgorithm | str) -> HashAlgorithm:
    try:
        return HashAlgorithm(algorithm)
    except ValueError:
        known = ", ".join(HashAlgorithm)
        raise ValidationError(
            f"{algorithm!r} is no hash algorithm of ours; known are {known}."
        ) from None


def _new(algorithm: HashAlgorithm | str) -> Callable[[], Any]:
    name = _known(algorithm)
    if name is HashAlgorithm.BLAKE3:
        return _blake3
    if name is HashAlgorithm.XXH3_128:
        return _xxh3_128
    return lambda: hashlib.new(name.value, usedforsecurity=False)


def calculate_hash(data: Data, algorithm: HashAlgorithm | str = HashAlgorithm.SHA256) -> str:
    """Return the hex digest of *data*: a str as UTF-8, or anything with the buffer protocol.

    *algorithm* is a `HashAlgorithm` or its name; BLAKE3 and XXH3_128 need the extra `fast`. Raises
    `ValidationError` for an unknown one, `MissingExtraError` where the extra is not installed.

    >>> calculate_hash("ops")[:16], calculate_hash(b"ops", "md5")
    ('a92c36e66a25ee99', 'e847897826ceb8346eb5141f8c23436a')
    """
    digest = _new(algorithm)()
    digest.update(_as_bytes(data))
    return str(digest.hexdigest())


def calculate_file_hash(
    path: StrPath, algorithm: HashAlgorithm | str = HashAlgorithm.SHA256
) -> str:
    """Return the hex digest of a file's content, read piece by piece."""
    with pathlib.Path(path).open("rb") as file:
        return str(hashlib.file_digest(file, _new(algorithm)).hexdigest())


def verify_checksum(
    data: Data | os.PathLike[str],
    expected: str,
    algorithm: HashAlgorithm | str = HashAlgorithm.SHA256,
) -> bool:
    """Whether *data* has the hex digest *expected*, compared in constant time.

    A str is data, as it is for `calculate_hash`; only an `os.PathLike` names a file. *algorithm* is
    the one that made *expected*. Raises `ValidationError` for an unknown one.
    """
    actual = (
        calculate_file_hash(data, algorithm)
        if isinstance(data, os.PathLike)
        else calculate_hash(data, algorithm)
    )
    return hmac.compare_digest(actual.encode(), _text_bytes(expected.strip().lower()))


def create_signature(
    message: Data, secret_key: str | bytes, algorithm: HashAlgorithm | str = HashAlgorithm.SHA256
) -> str:
    """Return the hex signature of *message*: keyed BLAKE2, otherwise HMAC (RFC 2104).

    *secret_key* is text (used as UTF-8) or bytes; a BLAKE2 key longer than the algorithm takes (64
    and 32 bytes) is hashed first. *algorithm* is any `HashAlgorithm` but MD5, BLAKE3 and XXH3_128.
    Raises `ValidationError` for an empty key and for another algorithm.

    >>> signature = create_signature("pay 10", "secret")
    >>> verify_signature("pay 10", signature, "secret"), verify_signature("pay 99", signature, "secret")
    (True, False)
    """
    key = secret_key.encode() if isinstance(secret_key, str) else bytes(secret_key)
    if not key:
        raise ValidationError("The secret key is empty, so any program could sign.")
    name = _known(algorithm)
    content = _as_bytes(message)
    if name in {HashAlgorithm.BLAKE2B, HashAlgorithm.BLAKE2S}:
        keyed = hashlib.blake2b if name is HashAlgorithm.BLAKE2B else hashlib.blake2s
        if len(key) > keyed.MAX_KEY_SIZE:
            key = keyed(key).digest()
        return keyed(content, key=key).hexdigest()
    if name in {HashAlgorithm.BLAKE3, HashAlgorithm.XXH3_128, HashAlgorithm.MD5}:
        raise ValidationError(f"{name} is not used for signatures here; take SHA256 or BLAKE2B.")
    return hmac.new(key, content, name.value).hexdigest()


def verify_signature(
    message: Data,
    signature: str,
    secret_key: str | bytes,
    algorithm: HashAlgorithm | str = HashAlgorithm.SHA256,
) -> bool:
    """Whether *signature* (hex) is that of *message* under *secret_key*, compared in constant time.

    *algorithm* must be the one that signed. Raises `ValidationError` as `create_signature` does.
    """
    expected = create_signature(message, secret_key, algorithm)
    return hmac.compare_digest(expected.encode(), _text_bytes(signature))


def _as_bytes(data: Data) -> Any:
    if isinstance(data, str):
        return _text_bytes(data)
    try:
        view = memoryview(data)
    except TypeError:
        raise TypeError(
            f"{type(data).__name__} is neither text nor a buffer; "
            "calculate_content_hash takes any object."
        ) from None
    return view if view.c_contiguous else view.tobytes()


def _text_bytes(text: str) -> bytes:
    # Lone surrogates come from names of files and headers that are no UTF-8: data like any other.
    return text.encode("utf-8", "surrogatepass")
