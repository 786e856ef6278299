"""Pictures as PNG files: of arrays, of plots of matplotlib, of Pillow's images.

What a value is shows in its methods, so that no library is imported for it.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

from ops.registry.errors import InvalidValueError

if TYPE_CHECKING:
    import pathlib

__all__ = ["is_figure", "is_page_of_plots", "is_pillow", "on_host", "write_picture"]

_COLOURS = {1: 0, 2: 4, 3: 2, 4: 6}


def is_figure(value: Any) -> bool:
    """Whether it is a figure of matplotlib, its module ``pyplot``, or axes."""
    return hasattr(value, "savefig") or hasattr(getattr(value, "figure", None), "savefig")


def is_page_of_plots(value: Any) -> bool:
    """Whether it is a figure of plotly, bokeh or altair that writes itself as a page."""
    return hasattr(value, "to_html") and (
        hasattr(value, "to_plotly_json") or hasattr(value, "mark_point")
    )


def is_pillow(value: Any) -> bool:
    """Whether it is an image of Pillow."""
    return hasattr(value, "save") and hasattr(value, "getbands")


def write_picture(source: Any, target: pathlib.Path, channels: int | None = None) -> None:
    """Write a picture as PNG; *channels* are those of an array that has no axis for them, or must have as many.

    Raises `InvalidValueError` for what is no picture.
    """
    if is_figure(source):
        figure = source if hasattr(source, "savefig") else source.figure
        figure.savefig(target, format="png")
    elif hasattr(source, "save"):
        try:
            source.save(target, format="PNG")
        except (OSError, ValueError) as error:
            raise InvalidValueError(
                f"The picture cannot be written as PNG: {error}.",
                suggestions=("Convert it before, such as by image.convert('RGB').",),
            ) from error
    else:
        target.write_bytes(_png(source, channels))


def on_host(values: Any) -> Any:
    """Return a tensor of a device, or with gradients, as an array that can be read."""
    for step in ("detach", "cpu"):
        values = getattr(values, step, lambda values=values: values)()
    return values if hasattr(values, "__len__") else list(values)


def _png(source: Any, channels: int | None) -> bytes:
    """Return an array as a PNG file, as its specification (ISO/IEC 15948) lays it out."""
    import numpy as np

    is_tensor = hasattr(source, "detach")
    try:
        array = np.asarray(on_host(source))
    except (TypeError, ValueError) as error:
        raise InvalidValueError(f"An Image is not made of {source!r:.80}.") from error
    if is_tensor and array.ndim == 3 and array.shape[0] in _COLOURS:
        array = np.moveaxis(array, 0, -1)
    array = array[:, :, None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[2] not in _COLOURS or 0 in array.shape:
        raise InvalidValueError(
            f"An Image is rows by columns, with 1 to 4 channels, not of shape {array.shape}."
        )
    if channels not in {None, array.shape[2]}:
        raise InvalidValueError(
            f"mode is of {channels} channels, and the array has {array.shape[2]}."
        )
    if array.dtype.kind not in "fbiu":
        raise InvalidValueError(f"An Image is of numbers, not of {array.dtype}.")
    if array.dtype.kind in "fb":
        scale = 255 if array.dtype.kind == "b" or float(np.nanmax(array)) <= 1 else 1
        array = np.nan_to_num(array.astype(float)) * scale
    pixels = np.clip(array, 0, 255).astype(np.uint8)
    rows, columns, depth = pixels.shape
    # Each row begins with its filter, of which 0 is none.
    lines = np.concatenate([np.zeros((rows, 1), np.uint8), pixels.reshape(rows, -1)], axis=1)
    header = struct.pack(">IIBBBBB", columns, rows, 8, _COLOURS[depth], 0, 0, 0)
    parts = [
        _chunk(b"IHDR", header),
        _chunk(b"IDAT", zlib.compress(lines.tobytes())),
        _chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
