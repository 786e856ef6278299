"""Values with a form of their own: tables, images and histograms, each written as a file that other tools read."""

from __future__ import annotations

import os
import pathlib
import shutil
import struct
import zlib
from typing import TYPE_CHECKING, Any

from ops.registry.disk.journal import encode
from ops.registry.errors import InvalidValueError
from ops.registry.plain_values import plain_parameters

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Histogram", "Image", "Media", "Table"]

_SUFFIXES = {".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg", ".bmp"}
_COLOURS = {1: 0, 2: 4, 3: 2, 4: 6}
_MOST_BINS = 512


class Media:
    """Something that `log` keeps as a file."""

    def write(self, folder: pathlib.Path, stem: str) -> pathlib.Path:
        """Write it as *stem* with its suffix into *folder*; return the path."""
        raise NotImplementedError


class Table(Media):
    """Rows under named columns; kept as JSON with ``columns`` and ``data``.

    Without *columns* those of *dataframe*, a pandas DataFrame, count. Cells are any JSON values.
    """

    def __init__(
        self,
        columns: Sequence[str] | None = None,
        data: Iterable[Sequence[Any]] | None = None,
        dataframe: Any = None,
    ) -> None:
        if dataframe is not None:
            columns = [str(one) for one in dataframe.columns] if columns is None else columns
            data = dataframe.to_numpy().tolist() if data is None else data
        self.columns: list[str] = ["Input", "Output", "Expected"] if columns is None else [*columns]
        self.data: list[list[Any]] = []
        for row in [] if data is None else data:
            self.add_data(*row)

    def add_data(self, *row: Any) -> None:
        """Add a row, which has a value for each column."""
        if len(row) != len(self.columns):
            raise InvalidValueError(
                f"A row of this table has {len(self.columns)} values, not {len(row)}: {self.columns}."
            )
        self.data.append(list(row))

    def add_column(self, name: str, data: Sequence[Any]) -> None:
        """Add a column with a value for each row."""
        if self.data and len(data) != len(self.data):
            raise InvalidValueError(
                f"The table has {len(self.data)} rows, and {name!r} {len(data)}."
            )
        self.columns = [*self.columns, name] if self.data else [name]
        rows = self.data or [[] for _ in data]
        self.data = [[*row, value] for row, value in zip(rows, data, strict=True)]

    def get_column(self, name: str) -> list[Any]:
        """Return the values of a column."""
        if name not in self.columns:
            raise InvalidValueError(f"The table has no column {name!r}; it has {self.columns}.")
        position = self.columns.index(name)
        return [row[position] for row in self.data]

    def write(self, folder: pathlib.Path, stem: str) -> pathlib.Path:
        """Write the table as JSON."""
        if any(isinstance(value, Media) for row in self.data for value in row):
            raise InvalidValueError(
                "A cell of a table cannot be an Image, a Histogram or a Table.",
                suggestions=("Log it under a name of its own.",),
            )
        return _json(folder, stem, {"columns": self.columns, "data": self.data})


class Image(Media):
    """A picture: a path, an array (rows by columns, with 1 to 4 channels), or what has ``save`` or ``savefig``.

    Arrays are 0 to 255, or of floats from 0 to 1; a torch tensor has its channels first.
    """

    def __init__(
        self, data_or_path: Any, mode: str | None = None, caption: str | None = None, **unknown: Any
    ) -> None:
        if unknown or mode is not None:
            named = ", ".join([*unknown, *(["mode"] if mode else [])])
            raise InvalidValueError(
                f"Image takes no {named} here: boxes and masks are not drawn.",
                suggestions=("Draw them into the picture before.",),
            )
        self.caption: str | None = caption
        self._source = data_or_path

    def write(self, folder: pathlib.Path, stem: str) -> pathlib.Path:
        """Write the picture: a file as it is, all else as PNG."""
        source = self._source
        if isinstance(source, (str, os.PathLike)):
            return self._copied(pathlib.Path(source), folder, stem)
        target = folder / f"{stem}.png"
        if hasattr(source, "savefig"):
            source.savefig(target, format="png")
        elif hasattr(source, "save"):
            source.save(target, format="PNG")
        else:
            target.write_bytes(_png(source))
        return target

    @staticmethod
    def _copied(source: pathlib.Path, folder: pathlib.Path, stem: str) -> pathlib.Path:
        if source.suffix.lower() not in _SUFFIXES:
            raise InvalidValueError(
                f"{str(source)!r:.200} is no picture: it ends in none of {sorted(_SUFFIXES)}."
            )
        target = folder / f"{stem}{source.suffix.lower()}"
        shutil.copyfile(source, target)
        return target


class Histogram(Media):
    """How often values fall into bins; *np_histogram* is what ``numpy.histogram`` returns, counts and edges."""

    def __init__(
        self,
        sequence: Iterable[float] | None = None,
        np_histogram: tuple[Any, Any] | None = None,
        num_bins: int = 64,
    ) -> None:
        if (sequence is None) == (np_histogram is None):
            raise InvalidValueError("A Histogram is made of a sequence, or of np_histogram.")
        if not 1 <= num_bins <= _MOST_BINS:
            raise InvalidValueError(f"num_bins is 1 to {_MOST_BINS}, not {num_bins!r:.40}.")
        import numpy as np

        if np_histogram is None:
            values = np.asarray(_on_host(sequence), dtype=float).ravel()
            np_histogram = np.histogram(values[np.isfinite(values)], bins=num_bins)
        counts, edges = (np.asarray(one).tolist() for one in np_histogram)
        if len(edges) != len(counts) + 1:
            raise InvalidValueError(
                f"A histogram of {len(counts)} counts has one edge more, not {len(edges)}."
            )
        self.histogram: list[float] = counts
        self.bins: list[float] = edges

    def write(self, folder: pathlib.Path, stem: str) -> pathlib.Path:
        """Write counts and edges as JSON."""
        return _json(folder, stem, {"histogram": self.histogram, "bins": self.bins})


class Plain(Media):
    """A text, a list, or another JSON value that is no number."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def write(self, folder: pathlib.Path, stem: str) -> pathlib.Path:
        """Write the value as JSON."""
        return _json(folder, stem, {"value": self._value})


def _json(folder: pathlib.Path, stem: str, content: dict[str, Any]) -> pathlib.Path:
    path = folder / f"{stem}.json"
    path.write_bytes(encode(plain_parameters("the value", content)))
    return path


def _on_host(values: Any) -> Any:
    """Return a tensor of a device, or with gradients, as an array that can be read."""
    for step in ("detach", "cpu"):
        values = getattr(values, step, lambda values=values: values)()
    return values if hasattr(values, "__len__") else list(values)


def _png(source: Any) -> bytes:
    """Return an array as a PNG file, as its specification (ISO/IEC 15948) lays it out."""
    import numpy as np

    is_tensor = hasattr(source, "detach")
    array = np.asarray(_on_host(source))
    if is_tensor and array.ndim == 3 and array.shape[0] in _COLOURS:
        array = np.moveaxis(array, 0, -1)
    array = array[:, :, None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[2] not in _COLOURS or 0 in array.shape:
        raise InvalidValueError(
            f"An Image is rows by columns, with 1 to 4 channels, not of shape {array.shape}."
        )
    if array.dtype.kind in "fb":
        scale = 255 if array.dtype.kind == "b" or float(np.nanmax(array)) <= 1 else 1
        array = np.nan_to_num(array.astype(float)) * scale
    pixels = np.clip(array, 0, 255).astype(np.uint8)
    rows, columns, channels = pixels.shape
    # Each row begins with its filter, of which 0 is none.
    lines = np.concatenate([np.zeros((rows, 1), np.uint8), pixels.reshape(rows, -1)], axis=1)
    header = struct.pack(">IIBBBBB", columns, rows, 8, _COLOURS[channels], 0, 0, 0)
    parts = [
        _chunk(b"IHDR", header),
        _chunk(b"IDAT", zlib.compress(lines.tobytes())),
        _chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
