"""What the payloads of a source are: a schema turns bytes into columns with names, units and times.

A schema describes rows of numbers. A message holds one row or several; several were sampled at *rate*, the
first one at the time of the message. Without a schema a payload is bytes, as before.

The descriptions of all sources are kept in the log itself, as JSON in `log.sources.json`, so that every reader has
the columns. That file is only read when columns are requested; damage to it costs names, and no message.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from ops.datalog.errors import LogFormatError
from ops.datalog.messages import Columns
from ops.foundation.errors import ValidationError
from ops.foundation.files import atomic_write

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ops.datalog.messages import Block

__all__ = ["LogSchema", "LogSource"]

TimeUnit = Literal["ns", "us", "ms", "s"]

NAME = "log.sources.json"
_FORMAT = 1
#: Nanoseconds of one step of the time of messages.
NANOSECONDS: dict[str, int] = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}


@dataclass(frozen=True, slots=True)
class LogSchema:
    """Rows of numbers in the payloads of a source.

    Attributes:
        dtype: what one element is, anything that `numpy.dtype` takes but objects ("<i2", "float32"); or a
            structured type, which brings names of its own.
        columns: names of the elements of one row, in their order; one element, "value", when left out.
        units: of each column, in their order or by name; empty where there is none.
        rate: rows a second, for messages of several rows; None gives all of them the time of the message.
        time_unit: what the times of messages count.

    Raises ValidationError.

    >>> schema = LogSchema("<i2", columns=("x", "y"), units=("mm", "mm"), rate=500.0, time_unit="us")
    >>> schema.row_bytes
    4
    """

    dtype: Any
    columns: Sequence[str] = ()
    units: Mapping[str, str] | Sequence[str] = ()
    rate: float | None = None
    time_unit: TimeUnit = "ns"

    def __post_init__(self) -> None:
        try:
            dtype = np.dtype(self.dtype)
        except TypeError as error:
            raise ValidationError(f"{self.dtype!r} is no dtype of NumPy: {error}") from error
        if dtype.hasobject or not dtype.itemsize:
            raise ValidationError(f"Payloads are bytes, which {dtype} cannot be.")
        own = tuple(_leaves(dtype, "")) if dtype.names else ()
        names = tuple(self.columns) or tuple(name for name, _, _ in own) or ("value",)
        if isinstance(self.columns, str) or not all(map(_is_name, names)):
            raise ValidationError(f"columns must be names, not {self.columns!r}.")
        if len(set(names)) < len(names) or "time" in names:
            raise ValidationError(f"columns must differ, also from 'time', which {names} do not.")
        if own and len(names) != len(own):
            raise ValidationError(f"{dtype} has {len(own)} columns, not {len(names)}.")
        if self.rate is not None and not 0 < self.rate < inf:
            raise ValidationError(f"rate must be positive, not {self.rate}.")
        if self.time_unit not in NANOSECONDS:
            raise ValidationError(
                f"time_unit must be one of {', '.join(NANOSECONDS)}, not {self.time_unit!r}."
            )
        object.__setattr__(self, "dtype", dtype)
        object.__setattr__(self, "columns", names)
        object.__setattr__(self, "units", _units(self.units, names))

    @property
    def row_bytes(self) -> int:
        """How many bytes a row takes."""
        count = 1 if self.dtype.names else len(self.columns)
        return int(self.dtype.itemsize) * count

    def units_by_name(self) -> dict[str, str]:
        """Return the units of the columns that have one."""
        return dict(cast("Mapping[str, str]", self.units))  # since __post_init__

    def unit(self, column: str) -> str:
        """Return the unit of *column*, "" when it has none."""
        return self.units_by_name().get(column, "")

    def table(self, source: int, messages: Columns | Block) -> dict[str, np.ndarray]:
        """Return the rows of messages of *source* as a column each, and before them `time` (uint64).

        Raises LogFormatError when the payload of one is no whole number of rows.
        """
        rows = messages.data if isinstance(messages, Columns) else messages.rows
        times = messages.times
        if isinstance(rows, np.ndarray):
            sizes = np.full(len(times), rows.shape[1], np.int64)
            data = np.ascontiguousarray(rows).reshape(-1)
        else:
            sizes = np.array([len(row) for row in rows], np.int64)
            data = np.concatenate([np.empty(0, np.uint8), *rows])
        odd = np.flatnonzero(sizes % self.row_bytes)
        if len(odd):
            raise LogFormatError(
                f"The message of source {source} at {times[odd[0]]} has {sizes[odd[0]]} bytes, which are "
                f"no rows of {self.row_bytes} bytes.",
                suggestions=("Read it without a schema, or describe the source as it is.",),
            )
        return {"time": self._times(times, sizes // self.row_bytes)} | self._columns(data)

    def _times(self, times: np.ndarray, counts: np.ndarray) -> np.ndarray:
        repeated = np.repeat(times, counts)
        if self.rate is None or (counts <= 1).all():
            return repeated
        ends = np.cumsum(counts)
        numbers = np.arange(len(repeated)) - np.repeat(ends - counts, counts)
        step = 1e9 / self.rate / NANOSECONDS[self.time_unit]
        offsets: np.ndarray = np.rint(numbers * step).astype(np.uint64)
        times_of_rows: np.ndarray = repeated + offsets
        return times_of_rows

    def _columns(self, data: np.ndarray) -> dict[str, np.ndarray]:
        found = data.view(self.dtype)
        if not self.dtype.names:
            table = found.reshape(-1, len(self.columns))
            return {name: _native(table[:, number]) for number, name in enumerate(self.columns)}
        leaves = _leaves(self.dtype, "")
        return {
            name: _native(_leaf(found, path, index))
            for name, (_, path, index) in zip(self.columns, leaves, strict=True)
        }

    def to_json(self) -> dict[str, Any]:
        """Return it as what JSON can hold."""
        descr = np.lib.format.dtype_to_descr(self.dtype)
        return {
            "dtype": descr, "columns": list(self.columns), "units": self.units_by_name(),
            "rate": self.rate, "time_unit": self.time_unit,
        }  # fmt: skip

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> LogSchema:
        """Return the schema that `to_json` gave; raises ValidationError, KeyError, TypeError."""
        return cls(
            np.lib.format.descr_to_dtype(_tuples(fields["dtype"])), fields["columns"],
            fields["units"], fields["rate"], fields["time_unit"],
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class LogSource:
    """What is known of a source besides its number: a *name*, a *schema*, and *metadata* of your own.

    Raises `ValidationError` when name or metadata is no text.
    """

    name: str = ""
    schema: LogSchema | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        texts = [self.name, *self.metadata, *self.metadata.values()]
        if not all(isinstance(text, str) for text in texts):
            raise ValidationError("The name and the metadata of a source must be text.")
        object.__setattr__(self, "metadata", dict(self.metadata))


def write_sources(folder: Path, sources: Mapping[int, LogSource]) -> None:
    """Keep the descriptions of *sources* in the log, beside those of others that it has already.

    The caller has the `files_lock`. Raises ValidationError.
    """
    for number in sources:
        if number not in range(256):
            raise ValidationError(f"A source is a number from 0 to 255, not {number!r}.")
    known = read_sources(folder, strict=False) | dict(sources)
    named = [source.name for source in known.values() if source.name]
    if len(set(named)) < len(named):
        raise ValidationError(f"Names of sources must differ, which {sorted(named)} do not.")
    content = {
        str(number): {
            "name": source.name, "metadata": dict(source.metadata),
            "schema": None if source.schema is None else source.schema.to_json(),
        }
        for number, source in sorted(known.items())
    }  # fmt: skip
    with atomic_write(folder / NAME) as file:
        json.dump({"format": _FORMAT, "sources": content}, file, indent=1)


def read_sources(folder: Path, *, strict: bool = True) -> dict[int, LogSource]:
    """Return what the log in *folder* knows of its sources.

    Raises LogFormatError when that is damaged or of a newer version; without *strict* it is nothing then.
    """
    try:
        content = json.loads((folder / NAME).read_text(encoding="utf-8"))
        if content["format"] > _FORMAT:
            raise LogFormatError(
                f"{NAME} has format {content['format']}, this ops-datalog reads up to {_FORMAT}.",
                suggestions=("Upgrade ops-datalog.",),
            )
        return {int(number): _source(fields) for number, fields in content["sources"].items()}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        if not strict:
            return {}
        if isinstance(error, LogFormatError):
            raise
        raise LogFormatError(f"{NAME} is damaged: {error!r}") from error


def _source(fields: Mapping[str, Any]) -> LogSource:
    schema = fields["schema"]
    return LogSource(
        fields["name"], None if schema is None else LogSchema.from_json(schema), fields["metadata"]
    )


def _is_name(name: object) -> bool:
    return isinstance(name, str) and bool(name)


def _units(units: Mapping[str, str] | Sequence[str], names: Sequence[str]) -> dict[str, str]:
    if isinstance(units, str):
        raise ValidationError(f"units must be a unit for each column, not {units!r}.")
    if not hasattr(units, "items"):
        if len(units) not in {0, len(names)}:
            raise ValidationError(f"{len(units)} units do not fit {len(names)} columns.")
        units = dict(zip(names, units, strict=False))
    found: dict[str, str] = dict(units)  # type: ignore[arg-type]
    unknown = sorted(set(found) - set(names))
    if unknown or not all(isinstance(unit, str) for unit in found.values()):
        raise ValidationError(f"units must be text by the columns {tuple(names)}, not {found}.")
    return {name: unit for name, unit in found.items() if unit}


def _leaves(
    dtype: np.dtype[Any], prefix: str
) -> list[tuple[str, tuple[str, ...], tuple[int, ...]]]:
    """Return name, path and index of each number in a structured type."""
    found: list[tuple[str, tuple[str, ...], tuple[int, ...]]] = []
    for name in dtype.names or ():
        field_type = dtype.fields[name][0]  # type: ignore[index]  # it has names
        base, shape = field_type.base, field_type.shape
        for index in np.ndindex(*shape):
            label = "_".join([f"{prefix}{name}", *map(str, index)])
            if base.names:
                if shape:
                    raise ValidationError(f"Arrays of structures, as {name!r}, have no columns.")
                found += [
                    (leaf, (name, *path), inner) for leaf, path, inner in _leaves(base, f"{label}.")
                ]
            else:
                found.append((label, (name,), index))
    return found


def _leaf(found: np.ndarray, path: tuple[str, ...], index: tuple[int, ...]) -> np.ndarray:
    for name in path:
        found = found[name]
    for number in index:
        found = found[:, number]
    return found


def _native(column: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(column, dtype=column.dtype.newbyteorder("="))


def _tuples(descr: Any) -> Any:
    """Return what JSON made of a dtype's description as NumPy wants it."""
    if not isinstance(descr, list):
        return descr
    return [
        (field_descr[0] if isinstance(field_descr[0], str) else tuple(field_descr[0]),
         _tuples(field_descr[1]), *(tuple(shape) for shape in field_descr[2:]))
        for field_descr in descr
    ]  # fmt: skip
