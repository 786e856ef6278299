"""Values with a form of their own, each written as files that other tools read.

Whatever stands in the folder after `Media.write` belongs to the value: a table with pictures writes them beside it, an
image with a caption a text file.
"""

from __future__ import annotations

import os
import pathlib
import shutil
from typing import TYPE_CHECKING, Any

from ops.registry.disk.journal import encode
from ops.registry.errors import InvalidValueError
from ops.registry.plain_values import plain_parameters
from ops.registry.wandb.pictures import on_host, write_picture

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Audio", "Histogram", "Html", "Image", "Media", "Plain", "Video", "json_file"]

_PICTURES = {".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg", ".bmp"}
_SOUNDS = {".wav", ".mp3", ".flac", ".ogg", ".m4a", ".aac", ".opus"}
_VIDEOS = {".mp4", ".webm", ".ogg", ".gif"}
_PAGES = {".html"}
_MOST_BINS = 512
_MODES = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
_LARGEST_SAMPLE = 32767


class Media:
    """Something that `log` keeps as a file."""

    #: What is written beside it as text, None for nothing.
    caption: str | None = None

    def write(self, folder: pathlib.Path, stem: str) -> pathlib.Path:
        """Write it as *stem* with its suffix into *folder*; return the path."""
        raise NotImplementedError

    def write_with_caption(self, folder: pathlib.Path, stem: str) -> pathlib.Path:
        """Write it, and its caption as *stem*.caption.txt; return the path of the first."""
        if self.caption is not None:
            (folder / f"{stem}.caption.txt").write_text(str(self.caption), encoding="utf-8")
        return self.write(folder, stem)


class Image(Media):
    """A picture: a path, an array (rows by columns, with 1 to 4 channels), or what has ``save`` or ``savefig``.

    Arrays are 0 to 255, or of floats from 0 to 1; a torch tensor has its channels first. *mode* is that of the array,
    such as "RGB", and *caption* a text that is kept beside the picture.
    """

    def __init__(
        self, data_or_path: Any, mode: str | None = None, caption: str | None = None, **unknown: Any
    ) -> None:
        _refuse_options(
            "Image", unknown, "Draw what is to be seen into the picture, and convert it, before."
        )
        if mode is not None and mode not in _MODES:
            raise InvalidValueError(f"mode={mode!r:.40} is not one of {list(_MODES)}.")
        self.caption = caption
        self._channels = None if mode is None else _MODES[mode]
        self._source = data_or_path
        if isinstance(data_or_path, (str, os.PathLike)):
            self._source = _checked("picture", data_or_path, _PICTURES)

    def write(self, folder: pathlib.Path, stem: str) -> pathlib.Path:
        """Write the picture: a file as it is, all else as PNG."""
        if isinstance(self._source, pathlib.Path):
            return _copied(self._source, folder, stem)
        target = folder / f"{stem}.png"
        write_picture(self._source, target, self._channels)
        return target


class Html(Media):
    """A page: a text, the path of a file that ends in ``.html``, or an open file; kept as it is.

    *inject* is taken and does nothing: no style sheet of W&B is put in. With *data_is_not_path* a text is never a path.
    """

    def __init__(self, data: Any, inject: bool = True, data_is_not_path: bool = False) -> None:  # noqa: FBT001, FBT002 - W&B's signature
        del inject
        self._source: str | pathlib.Path
        if hasattr(data, "read"):
            data = data.read()
            data = data.decode("utf-8") if isinstance(data, bytes) else data
        elif isinstance(data, os.PathLike) or (not data_is_not_path and _is_page(data)):
            self._source = _checked("page", data, _PAGES)
            return
        if not isinstance(data, str):
            raise InvalidValueError(f"Html takes a text, a path or an open file, not {data!r:.80}.")
        self._source = data

    def write(self, folder: pathlib.Path, stem: str) -> pathlib.Path:
        """Write the page."""
        if isinstance(self._source, pathlib.Path):
            return _copied(self._source, folder, stem)
        target = folder / f"{stem}.html"
        target.write_text(self._source, encoding="utf-8")
        return target


class Audio(Media):
    """A sound: the path of a file, or samples from -1 to 1 (by channels, when there are several) at *sample_rate* Hz."""

    def __init__(
        self, data_or_path: Any, sample_rate: int | None = None, caption: str | None = None
    ) -> None:
        self.caption = caption
        self._source = data_or_path
        self._rate = sample_rate or 0
        if isinstance(data_or_path, (str, os.PathLike)):
            self._source = _checked("sound", data_or_path, _SOUNDS)
        elif not sample_rate:
            raise InvalidValueError("Audio of samples needs their sample_rate, in Hz.")

    def write(self, folder: pathlib.Path, stem: str) -> pathlib.Path:
        """Write the sound: a file as it is, samples as WAV of 16 bits."""
        if isinstance(self._source, pathlib.Path):
            return _copied(self._source, folder, stem)
        import wave

        import numpy as np

        samples = np.asarray(on_host(self._source))
        if samples.ndim not in {1, 2} or samples.dtype.kind not in "fiu":
            raise InvalidValueError(
                f"Audio takes samples by channels, not {samples.dtype} of shape {samples.shape}."
            )
        if samples.dtype.kind == "f":
            samples = np.clip(np.nan_to_num(samples), -1, 1) * _LARGEST_SAMPLE
        target = folder / f"{stem}.wav"
        with wave.open(str(target), "wb") as sound:
            sound.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
            sound.setsampwidth(2)
            sound.setframerate(self._rate)
            sound.writeframes(samples.astype("<i2").tobytes())
        return target


class Video(Media):
    """A video: the path of a file."""

    def __init__(self, data_or_path: Any, caption: str | None = None, **unknown: Any) -> None:
        if not isinstance(data_or_path, (str, os.PathLike)):
            raise InvalidValueError(
                "Video takes the path of a file here, and no frames.",
                suggestions=("Write them with a library such as imageio before.",),
            )
        unknown.pop("format", None)  # the file has one
        _refuse_options("Video", unknown, "A file has its own.")
        self.caption = caption
        self._source = _checked("video", data_or_path, _VIDEOS)

    def write(self, folder: pathlib.Path, stem: str) -> pathlib.Path:
        """Write the video as it is."""
        return _copied(self._source, folder, stem)


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
            try:
                values = np.asarray(on_host(sequence), dtype=float).ravel()
            except (TypeError, ValueError) as error:
                raise InvalidValueError(
                    f"A Histogram is of numbers, not of {sequence!r:.80}."
                ) from error
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
        return json_file(folder, stem, {"histogram": self.histogram, "bins": self.bins})


class Plain(Media):
    """A text, a list, or another JSON value that is no number."""

    def __init__(self, value: Any) -> None:
        #: As JSON has it.
        self.value: Any = plain_parameters("the value", {"value": _as_array(value)})["value"]

    def write(self, folder: pathlib.Path, stem: str) -> pathlib.Path:
        """Write the value as JSON."""
        return json_file(folder, stem, {"value": self.value})


def json_file(folder: pathlib.Path, stem: str, content: dict[str, Any]) -> pathlib.Path:
    """Write *content* as *stem*.json; return the path."""
    path = folder / f"{stem}.json"
    path.write_bytes(encode(plain_parameters("the value", content)))
    return path


def _as_array(value: Any) -> Any:
    """Return a tensor as what has ``tolist``: TensorFlow's have only ``numpy``."""
    if hasattr(value, "numpy") and not hasattr(value, "tolist"):
        return value.numpy()
    return value


def _refuse_options(kind: str, unknown: dict[str, Any], instead: str) -> None:
    requested = sorted(key for key, value in unknown.items() if value is not None)
    if requested:
        raise InvalidValueError(
            f"{kind} takes no {', '.join(requested)} here.", suggestions=(instead,)
        )


def _is_page(data: Any) -> bool:
    is_short = isinstance(data, str) and data.lower().endswith(".html") and "\0" not in data
    return is_short and os.path.isfile(data)  # noqa: PTH113 - a text that may be no path at all


def _checked(kind: str, path: str | os.PathLike[str], suffixes: set[str]) -> pathlib.Path:
    found = pathlib.Path(path)
    if found.suffix.lower() not in suffixes:
        raise InvalidValueError(
            f"{str(path)!r:.200} is no {kind}: it ends in none of {sorted(suffixes)}."
        )
    if not found.is_file():
        raise InvalidValueError(f"There is no file {str(path)!r:.200}.")
    return found


def _copied(source: pathlib.Path, folder: pathlib.Path, stem: str) -> pathlib.Path:
    target = folder / f"{stem}{source.suffix.lower()}"
    shutil.copyfile(source, target)
    return target
