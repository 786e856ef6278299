"""Passwords, kept as one self-describing string, so parameters can rise without a migration.

scrypt of the standard library with n = 2^17, r = 8, p = 1 (the minimum of OWASP's cheat sheet;
128 MiB and about a third of a second), or Argon2id when `argon2-cffi` is installed and requested.
The string names the algorithm: `$scrypt$ln=17,r=8,p=1$<salt>$<hash>` or argon2's own `$argon2id$...`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
import unicodedata
from typing import Any, Literal, TypeAlias

from ops.foundation.errors import MissingExtraError, ValidationError

__all__ = ["hash_password", "needs_rehash", "verify_password"]

Scheme: TypeAlias = Literal["scrypt", "argon2"]

_LOG_N, _R, _P = 17, 8, 1
_FORMAT = re.compile(
    r"\$scrypt\$ln=(\d{1,2}),r=(\d{1,3}),p=(\d{1,3})\$([A-Za-z0-9+/]{16,})\$([A-Za-z0-9+/]{22,})"
)
# A stored string is data: it must not be able to ask for all memory of the machine, or for hours.
_MOST_MEMORY = 1 << 30
_MOST_PASSES = 64


def hash_password(password: str, *, scheme: Scheme = "scrypt") -> str:
    """Return a salted hash of *password* that `verify_password` understands.

    *scheme* is "scrypt" (RFC 7914) or "argon2" (RFC 9106, extra `password`). Keyboards write one
    letter in several ways ("é" as one character or as two), so what is hashed is the password in
    Unicode's form NFC, as RFC 8265 has it. Raises `ValidationError` for an empty password, for one
    that is no valid Unicode, and for an unknown *scheme*; `MissingExtraError` for "argon2" without
    the extra.
    """
    if not password:
        raise ValidationError("An empty password is no password.")
    password = _normalized(password)
    if scheme == "argon2":
        return str(_argon2().PasswordHasher().hash(password))
    if scheme != "scrypt":
        raise ValidationError(f"scheme={scheme!r} is unknown; use 'scrypt' or 'argon2'.")
    salt = os.urandom(16)
    digest = _scrypt(password, salt, _LOG_N, _R, _P, 32)
    return f"$scrypt$ln={_LOG_N},r={_R},p={_P}${_encode(salt)}${_encode(digest)}"


def verify_password(password: str, stored: str) -> bool:
    """Whether *password* is the one of *stored*, compared in constant time.

    Raises `ValidationError` (a ValueError) for a string that is no hash of ours, for parameters of
    *stored* beyond what this machine should spend, and for a password that is no valid Unicode;
    `MissingExtraError` for an argon2 hash without the extra.

    >>> stored = hash_password("correct horse")
    >>> verify_password("correct horse", stored), verify_password("battery", stored)
    (True, False)
    """
    normalized = _normalized(password)
    # A hash from before passwords were normalized is of the characters that were typed.
    return _matches(normalized, stored) or (password != normalized and _matches(password, stored))


def _normalized(password: str) -> str:
    try:
        password.encode()
    except UnicodeEncodeError:
        # Without the text and its position, which would end in logs.
        raise ValidationError("The password is no valid Unicode text.") from None
    return unicodedata.normalize("NFC", password)


def _matches(password: str, stored: str) -> bool:
    if stored.startswith("$argon2"):
        argon2, parameters = _parse_argon2(stored)
        if parameters.memory_cost * 1024 > _MOST_MEMORY or parameters.time_cost > _MOST_PASSES:
            raise ValidationError("The stored parameters are out of range.")
        try:
            return bool(argon2.PasswordHasher().verify(stored, password))
        except argon2.exceptions.VerificationError:
            return False
    log_n, r, p, salt, expected = _parse(stored)
    actual = _scrypt(password, salt, log_n, r, p, len(expected))
    return hmac.compare_digest(actual, expected)


def needs_rehash(stored: str) -> bool:
    """Whether *stored* was made with weaker parameters than a new hash would be.

    Raises `ValidationError` for a string that is no hash of a known form.
    """
    if stored.startswith("$argon2"):
        return bool(_parse_argon2(stored)[0].PasswordHasher().check_needs_rehash(stored))
    log_n, r, p, salt, digest = _parse(stored)
    return log_n < _LOG_N or r < _R or p < _P or len(salt) < 16 or len(digest) < 32


def _parse(stored: str) -> tuple[int, int, int, bytes, bytes]:
    match = _FORMAT.fullmatch(stored)
    if match is None:
        raise ValidationError("The stored string is no password hash of a known form.")
    log_n, r, p = int(match[1]), int(match[2]), int(match[3])
    if not (1 <= log_n < 32 and r and 1 <= p <= _MOST_PASSES) or (
        128 * r * ((1 << log_n) + p) > _MOST_MEMORY
    ):
        raise ValidationError("The stored parameters are out of range.")
    try:
        return log_n, r, p, _decode(match[4]), _decode(match[5])
    except binascii.Error as error:
        raise ValidationError("The stored string is no password hash of a known form.") from error


def _scrypt(password: str, salt: bytes, log_n: int, r: int, p: int, size: int) -> bytes:
    memory = 128 * r * ((1 << log_n) + p + 2) + (1 << 20)
    return hashlib.scrypt(
        password.encode(), salt=salt, n=1 << log_n, r=r, p=p, maxmem=memory, dklen=size
    )


def _encode(value: bytes) -> str:
    return base64.b64encode(value).decode().rstrip("=")


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


def _parse_argon2(stored: str) -> tuple[Any, Any]:
    """Return the library and the parameters of *stored*."""
    argon2 = _argon2()
    try:
        return argon2, argon2.extract_parameters(stored)
    except argon2.exceptions.InvalidHashError as error:
        raise ValidationError("The stored string is no Argon2 hash.") from error


def _argon2() -> Any:
    try:
        import argon2
    except ImportError as error:
        raise MissingExtraError("argon2", "ops-foundation[password]") from error
    return argon2
