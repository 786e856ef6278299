"""The READMEs and changelogs of the packages as pages of the site."""

from __future__ import annotations

import pathlib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = pathlib.Path(__file__).parents[2]
_HEAD = """# READMEs and changelogs

What PyPI shows of each distribution, and what has changed.

"""


def write(app: Sphinx) -> None:
    """Write `reference/packages.md` and a page for each package below `reference/packages/`."""
    target = pathlib.Path(app.srcdir) / "reference"
    folder = target / "packages"
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(path.parent.name for path in ROOT.glob("packages/*/README.md"))
    for name in names:
        package = ROOT / "packages" / name
        changes = (package / "CHANGELOG.md").read_text(encoding="utf-8")
        parts = ((package / "README.md").read_text(encoding="utf-8"), _lower(changes))
        _replace(folder / f"{name}.md", "\n".join(parts))
    listed = "".join(f"packages/{name}\n" for name in names)
    _replace(target / "packages.md", f"{_HEAD}```{{toctree}}\n:maxdepth: 1\n\n{listed}```\n")


def _lower(text: str) -> str:
    """Return *text* with its headings one level down."""
    return re.sub(r"^#", "##", text, flags=re.MULTILINE)


def _replace(path: pathlib.Path, text: str) -> None:
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
