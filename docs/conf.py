"""Configuration of the documentation; the pages of the reference are written from the packages."""

from __future__ import annotations

import importlib
import os
import pathlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

sys.path.insert(0, str(pathlib.Path(__file__).parent / "_ext"))

project = "ops"
author = "The ops founders"
copyright = "2026, The ops founders"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.intersphinx",
]
html_theme = "furo"
html_title = "ops"
# What other pages include is no page.
exclude_patterns = ["_build", "reference/growth"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
default_role = "code"
suppress_warnings = ["ref.python"]  # Two packages may have a class of one name, as Transaction.
autodoc_member_order = "groupwise"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autoclass_content = "both"  # The docstring of __init__ may have the arguments.
napoleon_custom_sections = ["Shapes", "Units"]
# Fetched only where it is asked for, as when the pages are published: a build contacts no host.
intersphinx_mapping = (
    {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "pandas": ("https://pandas.pydata.org/docs", None),
    }
    if os.environ.get("OPS_INTERSPHINX")
    else {}
)

#: The guide of each package, lowest layer first; packages inside them belong to the same.
GUIDES = {
    "ops.foundation": "foundation",
    "ops.resilience": "resilience",
    "ops.observe": "observe",
    "ops.serialize": "serialize",
    "ops.shm": "shm",
    "ops.cache": "cache",
    "ops.datalog": "datalog",
    "ops.metrics_collect": "metrics-collect",
    "ops.registry": "registry",
    "ops.registry.databricks": "registry-databricks",
    "ops.registry.mlflow": "registry-mlflow",
}


def packages() -> dict[str, str]:
    """Return the packages with a list of public names, each with the guide that it belongs to."""
    found = {}
    for file in sorted(
        (pathlib.Path(__file__).parents[1] / "packages").glob("*/src/ops/**/__init__.py")
    ):
        if "lazy_exports(" in file.read_text(encoding="utf-8"):
            parts = file.parent.parts
            package = ".".join(parts[parts.index("src") + 1 :])
            home = max((g for g in GUIDES if f"{package}.".startswith(f"{g}.")), key=len)
            found[package] = GUIDES[home]
    order = list(GUIDES.values())
    return dict(sorted(found.items(), key=lambda item: (order.index(item[1]), item[0])))


PACKAGES = packages()


def write_reference(app: Sphinx) -> None:
    """Write a page for each package: all its public names with the first sentence, then each in full."""
    folder = pathlib.Path(app.srcdir) / "reference"
    folder.mkdir(exist_ok=True)
    for package, guide in PACKAGES.items():
        module = importlib.import_module(package)
        names = sorted(module.__all__, key=str.casefold)
        rows = [
            f"* - {{py:obj}}`{name} <{_home(package, name)}.{name}>`\n  - {_sentence(module, name)}"
            for name in names
        ]
        page = [
            f"# {package}",
            f"All public names of `{package}`. How they are used together stands in [its guide](../{guide}.md).",
            ":::{list-table}\n:widths: 30 70\n\n" + "\n".join(rows) + "\n:::",
            f"```{{eval-rst}}\n.. automodule:: {package}\n   :no-members:\n",
        ]
        page += [_full(package, name, module) for name in names if _home(package, name) == package]
        text = "\n\n".join(page) + "\n```\n"
        target = folder / f"{package}.md"
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            target.write_text(text, encoding="utf-8")
    index = ["# Reference", "```{toctree}\n:maxdepth: 1\n\n" + "\n".join(PACKAGES) + "\n```\n"]
    (folder / "index.md").write_text("\n\n".join(index), encoding="utf-8")


def _home(package: str, name: str) -> str:
    """Return the first package that exports the very same object: one that others export again."""
    value = getattr(importlib.import_module(package), name)
    for other in PACKAGES:
        module = importlib.import_module(other)
        if name in module.__all__ and getattr(module, name) is value:
            return other
    return package


def _is_data(module: object, name: str) -> bool:
    return not callable(getattr(module, name))


def _full(package: str, name: str, module: object) -> str:
    if _is_data(module, name):
        return f".. autodata:: {package}.{name}"
    value = getattr(module, name)
    if isinstance(value, type) and not value.__module__.startswith("ops"):
        # As `deprecated`, which newer Pythons have; its docstring is not ours to mend.
        return f".. py:class:: {name}\n   :module: {package}\n\n   The same as `{value.__module__}.{name}`."
    if not isinstance(value, type):
        return f".. autofunction:: {package}.{name}"
    kind = "autoexception" if issubclass(value, BaseException) else "autoclass"
    return f".. {kind}:: {package}.{name}\n   :members:\n   :show-inheritance:"


def _sentence(module: object, name: str) -> str:
    if _is_data(module, name):
        return ""
    text = (getattr(module, name).__doc__ or "").strip().split("\n\n")[0]
    return " ".join(text.split()).split(". ")[0].rstrip(".") + "."


def setup(app: Sphinx) -> None:
    """Write the generated pages before any page is read."""
    import benchmark_page
    import environment_page
    import format_page
    import growth_page
    import package_pages

    app.connect("builder-inited", write_reference)
    for page in (benchmark_page, environment_page, format_page, growth_page, package_pages):
        app.connect("builder-inited", page.write)
