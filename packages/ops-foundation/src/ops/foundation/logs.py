"""Loggers below "ops": silent until a program configures logging, here or by itself."""

from __future__ import annotations

import json
import logging
import sys
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ops.foundation.errors import text_of

if TYPE_CHECKING:
    from typing import TextIO

__all__ = ["get_logger", "setup_logging"]

LogFormat: TypeAlias = Literal["text", "json"]

_TEXT = "%(asctime)s %(levelname)-8s %(name)s: %(message)s"
_MARK = "_ops_handler"
_PLAIN = {*vars(logging.makeLogRecord({})), "message", "asctime"}


def get_logger(name: str = "ops") -> logging.Logger:
    """Return the logger *name*; those below "ops" say nothing until logging is configured."""
    logger = logging.getLogger(name)
    root = logging.getLogger("ops")
    if not root.handlers:
        root.addHandler(logging.NullHandler())
    return logger


def setup_logging(
    level: int | str = logging.INFO,
    fmt: LogFormat | str = "text",
    *,
    stream: TextIO | None = None,
    logger: str = "ops",
) -> logging.Logger:
    """Send the records of *logger* ("" is the root) to *stream* (default stderr); calling again replaces.

    *level* is the lowest that is shown, a number of logging or its name. *fmt* is "text", "json"
    (an object per line, with the `extra` fields), or a logging pattern.
    """
    target = logging.getLogger(logger)
    for old in [h for h in target.handlers if getattr(h, _MARK, False)]:
        target.removeHandler(old)
    handler = _Handler(sys.stderr if stream is None else stream)
    setattr(handler, _MARK, True)
    handler.setFormatter(
        _JsonFormatter() if fmt == "json" else logging.Formatter(_TEXT if fmt == "text" else fmt)
    )
    target.addHandler(handler)
    target.setLevel(level.upper() if isinstance(level, str) else level)
    return target


class _Handler(logging.StreamHandler[Any]):
    """Writes what the encoding of its stream lacks (halves of surrogates, names of files) with escapes."""

    def format(self, record: logging.LogRecord) -> str:
        encoding = getattr(self.stream, "encoding", None) or "utf-8"
        text = super().format(record)
        try:
            text.encode(encoding)
        except UnicodeEncodeError:  # the escapes are those of JSON, which the line may be
            return "".join(c if c.isascii() else json.dumps(c)[1:-1] for c in text)
        return text


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        body: dict[str, Any] = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        body |= {k: v for k, v in vars(record).items() if k not in _PLAIN}
        if record.exc_info:
            body["exception"] = self.formatException(record.exc_info)
        return json.dumps(body, default=text_of, ensure_ascii=False)
