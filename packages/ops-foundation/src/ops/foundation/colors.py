"""Colours for terminals that want them: NO_COLOR, FORCE_COLOR and pipes are respected."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from typing import TextIO

__all__ = ["Color", "colorize_text"]

_RESET = "\x1b[0m"


class Color(StrEnum):
    """Foreground colours and styles; the value is the SGR code."""

    BLACK = "30"
    RED = "31"
    GREEN = "32"
    YELLOW = "33"
    BLUE = "34"
    MAGENTA = "35"
    CYAN = "36"
    WHITE = "37"
    GRAY = "90"
    BOLD = "1"
    DIM = "2"
    UNDERLINE = "4"


def colorize_text(text: str, *styles: Color | str, stream: TextIO | None = None) -> str:
    """Return *text* in the given *styles* (a `Color` or its name), or unchanged where unwanted.

    NO_COLOR (not empty) forbids, FORCE_COLOR (not empty) demands, and otherwise *stream* (default
    stdout) must be a terminal. NO_COLOR wins over FORCE_COLOR.
    """
    codes = ";".join(_code(style) for style in styles)
    if not codes or not text or not _wanted(sys.stdout if stream is None else stream):
        return text
    return f"\x1b[{codes}m{text}{_RESET}"


def _code(style: Color | str) -> str:
    if isinstance(style, Color):
        return style.value
    try:
        return Color[style.upper()].value
    except KeyError:
        names = ", ".join(c.name.lower() for c in Color)
        raise ValueError(f"{style!r} is no colour; known are {names}.") from None


def _wanted(stream: TextIO | None) -> bool:
    # Environment NO_COLOR: any value: output has no colours (https://no-color.org).
    # Environment FORCE_COLOR: any value: output has colours also where it is no terminal;
    # NO_COLOR wins.
    # Environment TERM: "dumb": output has no colours.
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    if os.environ.get("TERM") == "dumb":
        return False
    return stream is not None and not stream.closed and stream.isatty()
