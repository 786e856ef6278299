"""The built documentation has every public name, for its readers and for the sites that link to it."""

from __future__ import annotations

import importlib
import pathlib
import zlib

import pytest
from tests.contracts import facades

ROOT = pathlib.Path(__file__).parents[2]
BUILT = ROOT / "docs" / "_build" / "html"
PACKAGES = sorted(
    ".".join(file.parent.parts[file.parent.parts.index("src") + 1 :])
    for file in facades.facades(ROOT)
)


@pytest.fixture(scope="module")
def inventory() -> set[str]:
    """The names in objects.inv, whose lines follow a head of four and are compressed."""
    data = (BUILT / "objects.inv").read_bytes().split(b"\n", 4)[4]
    return {line.split(" ")[0] for line in zlib.decompress(data).decode().splitlines()}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_described(package: str, inventory: set[str]) -> None:
    module = importlib.import_module(package)
    missing = [
        name
        for name in module.__all__
        if f"{package}.{name}" not in inventory
        and not any(f"{other}.{name}" in inventory for other in PACKAGES)
        and f"{getattr(module, name).__module__}.{name}" not in inventory
    ]
    assert missing == []


@pytest.mark.parametrize("package", PACKAGES)
def test_the_page_of_a_package_lists_its_names(package: str) -> None:
    page = (BUILT / "reference" / f"{package}.html").read_text(encoding="utf-8")
    module = importlib.import_module(package)
    assert [name for name in module.__all__ if name not in page] == []
