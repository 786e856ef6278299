"""A folder to work in: `tempdir`, whose content vanishes with the block."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from ops.foundation.files import temporary_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["tempdir"]


@contextlib.contextmanager
def tempdir(prefix: str = "ops-metrics-") -> Iterator[str]:
    """Give the path of a private folder, for collectors' `output_dir=`; the working directory stays."""
    with temporary_directory(prefix) as folder:
        yield str(folder)
