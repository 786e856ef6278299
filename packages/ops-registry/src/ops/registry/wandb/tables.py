"""`Table`: rows under named columns, kept as JSON with ``columns`` and ``data``, its pictures as files beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ops.registry.errors import InvalidValueError
from ops.registry.wandb.media import Media, json_file

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = ["Table", "is_frame"]

_DEFAULT_COLUMNS = ("Input", "Output", "Expected")
#: Missing values of pandas, which JSON has as null.
_MISSING = {"NAType", "NaTType"}


class Table(Media):
    """Rows under named columns; kept as JSON with ``columns`` and ``data``.

    *data* is rows, an array of two axes, or a pandas DataFrame, which *dataframe* may be too; *rows* is W&B's older
    name of *data*. Cells are any JSON values, and images, histograms or other media, which become files beside the
    table and ``{"file": NAME}`` in it. Columns have mixed types, whatever *allow_mixed_types*.
    """

    def __init__(
        self,
        columns: Sequence[str] | None = None,
        data: Any = None,
        rows: Any = None,
        dataframe: Any = None,
        allow_mixed_types: bool = True,  # noqa: FBT001, FBT002 - W&B's signature
        **unknown: Any,
    ) -> None:
        del allow_mixed_types
        if unknown:
            raise InvalidValueError(f"Table takes no {', '.join(sorted(unknown))} here.")
        data = rows if data is None else data
        if is_frame(data):
            dataframe, data = data, None
        if dataframe is not None:
            columns = [str(one) for one in dataframe.columns] if columns is None else columns
            data = _rows_of(dataframe) if data is None else data
        self.columns: list[str] = [*(_DEFAULT_COLUMNS if columns is None else columns)]
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

    def add_row(self, *row: Any) -> None:
        """Add a row: W&B's older name of `add_data`."""
        self.add_data(*row)

    def add_column(self, name: str, data: Sequence[Any]) -> None:
        """Add a column with a value for each row."""
        if self.data and len(data) != len(self.data):
            raise InvalidValueError(
                f"The table has {len(self.data)} rows, and {name!r} {len(data)}."
            )
        self.columns = [*self.columns, name] if self.data else [name]
        rows = self.data or [[] for _ in data]
        self.data = [[*row, value] for row, value in zip(rows, data, strict=True)]

    def add_computed_columns(self, fn: Callable[[int, dict[str, Any]], dict[str, Any]]) -> None:
        """Add the columns that *fn* returns for the number of each row and its values by name."""
        found = [fn(number, dict(zip(self.columns, row))) for number, row in self.iterrows()]  # noqa: B905 - W&B's
        for name in found[0] if found else ():
            self.add_column(name, [one[name] for one in found])

    def get_column(self, name: str, convert_to: str | None = None) -> Any:
        """Return the values of a column, as a list or, with *convert_to* "numpy", as an array."""
        if name not in self.columns:
            raise InvalidValueError(f"The table has no column {name!r}; it has {self.columns}.")
        if convert_to not in {None, "numpy"}:
            raise InvalidValueError(f"convert_to={convert_to!r:.40} is not 'numpy'.")
        position = self.columns.index(name)
        values = [row[position] for row in self.data]
        if convert_to is None:
            return values
        import numpy as np

        return np.array(values)

    def get_dataframe(self) -> Any:
        """Return the table as a pandas DataFrame."""
        import pandas as pd

        return pd.DataFrame(self.data, columns=self.columns)

    def iterrows(self) -> Iterator[tuple[int, list[Any]]]:
        """Return each row with its number, from 0."""
        return iter(list(enumerate(self.data)))

    def write(self, folder: pathlib.Path, stem: str) -> pathlib.Path:
        """Write the table as JSON, and the media in its cells beside it."""
        data = [
            [_cell(value, folder, f"{stem}-{row}-{column}") for column, value in enumerate(values)]
            for row, values in enumerate(self.data)
        ]
        return json_file(folder, stem, {"columns": self.columns, "data": data})


def is_frame(value: Any) -> bool:
    """Whether it is a pandas DataFrame."""
    return hasattr(value, "columns") and hasattr(value, "iloc")


def _rows_of(frame: Any) -> Iterable[Sequence[Any]]:
    """Return the rows, each cell of its column's type: an array of all of them would make floats of whole numbers."""
    return zip(*(frame.iloc[:, n].tolist() for n in range(len(frame.columns))), strict=True)


def _cell(value: Any, folder: pathlib.Path, stem: str) -> Any:
    if isinstance(value, Media):
        found = {"file": value.write(folder, stem).name}
        return found if value.caption is None else found | {"caption": value.caption}
    return None if type(value).__name__ in _MISSING else value
