"""Secrets inside of addresses: found in every form that people write, and struck from messages.

Third-party libraries quote the address that they could not use. Their messages pass through here
before they leave the package, and their errors are not chained.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["libpq_dsn", "proxy_with_scheme", "redacted", "secrets_in"]

_PATTERNS = (
    # scheme://user:password@host; a password may hold an "@" that was not escaped.
    re.compile(r"://[^:/?#\s]*:(?P<secret>.*)@[^@]*$"),
    # The same without a scheme, as proxies are written.
    re.compile(r"^(?!\w[\w+.-]*://)[^:/?#@\s]*:(?P<secret>.*)@[^@]*$"),
    # ?password=… of a URL, and password=… of a connection string, in quotes or not
    re.compile(
        r"[?&](?:[\w-]*(?:password|passwd|token|secret|signature|api[_-]?key)|sig|key)=(?P<secret>[^&#]*)",
        re.IGNORECASE,
    ),
    re.compile(r"(?:^|[\s?&])(?:ssl)?password\s*=\s*'(?P<secret>(?:[^'\\]|\\.)*)'", re.IGNORECASE),
    re.compile(r"(?:^|\s)(?:ssl)?password\s*=\s*(?P<secret>[^'\s]\S*)", re.IGNORECASE),
)


#: Of a header that a service has put into its answer; base64 hides nothing.
_CREDENTIALS = re.compile(r"\b(Basic|Bearer)\s+[A-Za-z0-9+/=._~-]+", re.IGNORECASE)


def secrets_in(address: str | None) -> list[str]:
    """Return the passwords in a URL, a proxy or a connection string, as written and decoded."""
    found: set[str] = set()
    for pattern in _PATTERNS:
        for match in pattern.finditer(address or ""):
            secret = match["secret"]
            found |= {secret, unquote(secret), re.sub(r"\\(.)", r"\1", secret)}
    return sorted((s for s in found if s), key=len, reverse=True)


def libpq_dsn(address: str) -> str:
    """Return a URL as libpq takes it: without the driver that SQLAlchemy puts into its scheme."""
    return re.sub(r"^(postgres(?:ql)?)\+\w+://", r"\1://", address)


def proxy_with_scheme(address: str | None) -> str | None:
    """Return the URL of a proxy, which may be written without its scheme, as curl takes it."""
    return address if not address or "://" in address else f"http://{address}"


def redacted(text: str, secrets: Iterable[str | None]) -> str:
    """Return *text* with every one of *secrets* replaced by `***`, and what a header may hold of them."""
    text = _CREDENTIALS.sub(r"\1 ***", text)
    for secret in sorted({s for s in secrets if s}, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text
