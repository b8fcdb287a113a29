"""The Python reference lists every public module exactly once, and every link into it leads to something."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections import Counter

import pytest

import oche
from paths import ROOT

DOCS = ROOT / "docs"
PAGES = [DOCS / "api.rst", *sorted((DOCS / "api").glob("*.rst"))]
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
COMMANDS = "oche.cli"  # the command line; docs/command-line.md shows its own help


def public() -> set[str]:
    """Return the names of all public modules of oche, without those of the command line."""
    names = {module.name for module in pkgutil.walk_packages(oche.__path__, "oche.")}
    private = {name for name in names if any(part.startswith("_") for part in name.split("."))}
    return {name for name in names - private if name != COMMANDS and not name.startswith(f"{COMMANDS}.")}


def documented() -> Counter[str]:
    """Count how often the reference has each module: by name, or with the package above it (`Modules` in docs/conf.py)."""
    names = re.findall(r"^\.\. automodule:: (\S+)$", TEXT, re.MULTILINE)
    for package in re.findall(r"^\.\. oche-modules:: (\S+)", TEXT, re.MULTILINE):
        below = pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}.")
        private = re.compile(r"\._")
        names += [package, *(module.name for module in below if not private.search(module.name))]
    return Counter(names)


IN_REFERENCE = documented()


def test_every_public_module_is_in_the_reference_once() -> None:
    assert set(IN_REFERENCE) == public()
    assert set(IN_REFERENCE.values()) == {1}


def test_modules_that_come_first_exist() -> None:
    for package, first in re.findall(r"^\.\. oche-modules:: (\S+) (.+)$", TEXT, re.MULTILINE):
        assert {f"{package}.{name}" for name in first.split()} <= set(IN_REFERENCE)


def test_every_page_of_the_reference_is_reached() -> None:
    index = (DOCS / "api.rst").read_text()
    assert re.findall(r"^   api/(\S+)$", index, re.MULTILINE)
    assert {f"api/{page.stem}" for page in PAGES[1:]} == set(re.findall(r"^   (api/\S+)$", index, re.MULTILINE))


LINKED = sorted(
    {
        name
        for page in [*DOCS.glob("*.md"), *(DOCS / "theory").glob("*.md")]
        for name in re.findall(r"\]\(#(oche\.[\w.]+)\)", page.read_text(encoding="utf-8"))
    }
    | set(re.findall(r":py:\w+:`(oche\.[\w.]+)`", (DOCS / "api.rst").read_text()))
)


@pytest.mark.parametrize("name", LINKED)
def test_what_pages_link_to_exists(name: str) -> None:
    module = max((m for m in IN_REFERENCE if f"{name}.".startswith(f"{m}.")), key=len)
    thing = importlib.import_module(module)
    for part in name[len(module) + 1 :].split(".") if name != module else ():
        thing = getattr(thing, part)
    assert thing.__doc__


def test_the_names_at_the_top_are_explained() -> None:
    rows = re.findall(
        r"^   \* - ``oche\.(\w+)``\n     - :py:\w+:`(oche\.[\w.]+)`$", (DOCS / "api.rst").read_text(), re.MULTILINE
    )
    assert sorted(name for name, _ in rows) == oche.__all__
    for name, where in rows:
        module, _, attribute = where.rpartition(".")
        found = (
            getattr(importlib.import_module(module), attribute) if module != "oche" else importlib.import_module(where)
        )
        assert getattr(oche, name) is found
