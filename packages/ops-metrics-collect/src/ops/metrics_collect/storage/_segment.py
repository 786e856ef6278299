"""Events to Segment by its batch API (extra `http`).

An object becomes one message, or several when it is larger than a message may be: the keys of a dict
are dealt out, a long list is cut, and `part` and `parts` say what belongs together. A message's id is
the digest of its content, so that Segment drops what it gets twice.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import tempfile
from typing import IO, TYPE_CHECKING, Any

from ops.foundation.logs import get_logger
from ops.metrics_collect.errors import ParameterError
from ops.metrics_collect.secrets import secrets_in
from ops.metrics_collect.storage._base import setting
from ops.metrics_collect.storage._http import RETRY, HTTPStorage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ops.resilience import RetryConfig

__all__ = ["StorageSegment"]

_log = get_logger("ops.metrics_collect")

HOST = "https://api.segment.io"
MESSAGE_BYTES = 32 * 1024
BATCH_BYTES = 475 * 1024
_ROWS = 1000  # of a tarball in one document
_ENVELOPE_BYTES = 1024  # of a message, beside its properties


class StorageSegment(HTTPStorage):
    """Sends dicts, JSON files of a dict or of a list of dicts, and the rows of tarballs, as events of *user_id*.

    The event's name is the name of the object. *write_key* is the key of the source, *host* the URL
    of the service. With *debug*, each batch is logged by its size. What is not given is taken from
    OPS_METRICS_SEGMENT_USER_ID, _SEGMENT_WRITE_KEY and _SEGMENT_HOST. *timeout_seconds* bounds each
    phase of a request, *retry* the attempts and the total time. Raises `ParameterError` without a
    *write_key*.
    """

    def __init__(
        self,
        debug: bool = False,  # noqa: FBT001, FBT002 - the signature of the specification
        user_id: str | None = None,
        write_key: str | None = None,
        host: str | None = None,
        *,
        timeout_seconds: float = 30.0,
        retry: RetryConfig = RETRY,
    ) -> None:
        # Environment OPS_METRICS_SEGMENT_WRITE_KEY: the key of the source of `StorageSegment`.
        # Environment OPS_METRICS_SEGMENT_USER_ID: the user of its events (default "unknown").
        # Environment OPS_METRICS_SEGMENT_HOST: the URL of its service (default:
        # https://api.segment.io).
        self._write_key = setting(write_key, "SEGMENT_WRITE_KEY")
        if not self._write_key:
            raise ParameterError(
                "StorageSegment needs write_key= (or OPS_METRICS_SEGMENT_WRITE_KEY)."
            )
        super().__init__(timeout_seconds=timeout_seconds, retry=retry, secrets=(self._write_key,))
        self._debug = debug
        self._user_id = setting(user_id, "SEGMENT_USER_ID") or "unknown"
        self._host = (setting(host, "SEGMENT_HOST") or HOST).rstrip("/")
        self._secrets += secrets_in(self._host)

    def send(self, name: str, source: IO[bytes]) -> None:
        """Send the messages of an object, batch by batch.

        Raises `ParameterError` when *source* is neither JSON of objects nor a tarball,
        `StorageError` when the service failed, retries included.
        """
        for batch in _batches(self._messages(name, _documents(name, source))):
            body = gzip.compress(b'{"batch":[' + b",".join(batch) + b"]}", mtime=0)
            if self._debug:
                _log.info("segment: %d messages of %r, %d bytes", len(batch), name, len(body))
            self.client.request(
                "POST",
                f"{self._host}/v1/batch",
                content=body,
                headers={"Content-Type": "application/json", "Content-Encoding": "gzip"},
                auth=(self._write_key, ""),
                retry=True,
            )

    def _messages(self, name: str, documents: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
        limit = MESSAGE_BYTES - _ENVELOPE_BYTES - 4 * len(name) - 4 * len(self._user_id)
        for document in documents:
            parts = _split(document, limit)
            for number, properties in enumerate(parts, 1):
                tagged = {**properties, "part": number, "parts": len(parts)}
                message = {
                    "type": "track",
                    "event": name,
                    "userId": self._user_id,
                    "properties": properties if len(parts) == 1 else tagged,
                }
                message["messageId"] = hashlib.sha256(_json(message)).hexdigest()
                yield _json(message)


def _documents(name: str, source: IO[bytes]) -> Iterable[Mapping[str, Any]]:
    if name.endswith(".tar.gz"):
        return _tarball(source)
    try:
        parsed = json.load(source)
    except ValueError as error:
        raise ParameterError(
            f"{name!r} is no JSON, which is what Segment takes: {error}"
        ) from error
    documents = parsed if isinstance(parsed, list) else [parsed]
    if not all(isinstance(d, dict) for d in documents):
        raise ParameterError(f"{name!r} must hold a JSON object, or a list of objects.")
    return documents


def _tarball(source: IO[bytes]) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of a tarball of ours, some in a document, with what they are rows of."""
    from ops.metrics_collect.extractor import Extractor

    with tempfile.NamedTemporaryFile(suffix=".tar.gz") as copy:
        shutil.copyfileobj(source, copy, 1 << 20)
        copy.flush()
        for payload in Extractor([copy.name]).payloads():
            origin = payload.config.get("install_uuid", "")
            for start in range(0, payload.batch.num_rows, _ROWS):
                rows = payload.batch.slice(start, _ROWS).to_pylist()
                yield {"collection": payload.collection, "install_uuid": origin, "rows": rows}


def _split(document: Mapping[str, Any], limit: int) -> list[dict[str, Any]]:
    """Deal the keys of *document* out to dicts of at most *limit* bytes."""
    parts: list[dict[str, Any]] = [{}]
    size = 2
    for key, value in document.items():
        for piece in _pieces(key, value, limit):
            needed = len(_json({key: piece}))
            if size + needed > limit or key in parts[-1]:
                parts.append({})
                size = 2
            parts[-1][key] = piece
            size += needed
    return parts


def _pieces(key: str, value: Any, limit: int) -> Iterator[Any]:
    if len(_json({key: value})) + 2 <= limit:
        yield value
    elif isinstance(value, list) and len(value) > 1:
        middle = len(value) // 2
        yield from _pieces(key, value[:middle], limit)
        yield from _pieces(key, value[middle:], limit)
    else:
        raise ParameterError(f"The value of {key!r} alone is larger than a message of Segment.")


def _batches(messages: Iterator[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 12
    for message in messages:
        if batch and size + len(message) + 1 > BATCH_BYTES:
            yield batch
            batch, size = [], 12
        batch.append(message)
        size += len(message) + 1
    if batch:
        yield batch


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
