"""Optional dependencies, imported on first use and missed with the line that installs them."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

from ops.foundation.errors import MissingExtraError

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["LazyImport"]


class LazyImport:
    """A module that is imported when one of its attributes is first read.

    `pandas = LazyImport("pandas", extra="ops-serialize[pandas]")` costs nothing until
    `pandas.read_csv`; then a missing pandas raises `MissingExtraError` (an ImportError) that names
    the extra. An installed module that fails to import raises its own error.
    """

    def __init__(self, module: str, extra: str) -> None:
        self._module_name = module
        self._extra = extra
        self._loaded: ModuleType | None = None

    @property
    def is_available(self) -> bool:
        """Whether the module is installed; finding out does not import it."""
        if self._loaded is not None:
            return True
        try:
            return importlib.util.find_spec(self._module_name) is not None
        except (ImportError, ValueError):
            return False

    def import_module(self) -> ModuleType:
        """Import the module and return it, or raise `MissingExtraError`."""
        if self._loaded is None:
            try:
                self._loaded = importlib.import_module(self._module_name)
            except ModuleNotFoundError as error:
                # Only this module or its parent missing means "not installed".
                missing = error.name or ""
                if self._module_name != missing and not self._module_name.startswith(f"{missing}."):
                    raise
                raise MissingExtraError(self._module_name, self._extra) from error
        return self._loaded

    def __getattr__(self, name: str) -> Any:
        # Protocol look-ups by copy, pickle or doctest must not import anything.
        if name.startswith("__") and name.endswith("__") and self._loaded is None:
            raise AttributeError(name)
        return getattr(self.import_module(), name)

    def __repr__(self) -> str:
        state = "loaded" if self._loaded is not None else "not loaded"
        return f"<LazyImport {self._module_name!r} {state}>"
