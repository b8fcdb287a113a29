"""Sphinx: Markdown pages (MyST), the Python reference from docstrings, the command line's own --help."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import pkgutil
import sys
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import oche

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

project = "oche"
author = "the oche contributors"
copyright = "the oche contributors, Apache License 2.0"
release = version = oche.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"oche {release}"

myst_enable_extensions = ["dollarmath", "amsmath", "substitution", "deflist"]
myst_heading_anchors = 3
# These pages exist once the experiments were run. Until then the text says so and does not link.
myst_substitutions = {
    name: f"[`examples/seed/{file}`](path:../examples/seed/{file})"
    if (HERE / "../examples/seed" / file).exists()
    else f"`examples/seed/{file}` (not written yet)"
    for name, file in (("seed_readme", "README.md"), ("seed_results", "RESULTS.md"))
}

default_role = "py:obj"  # `name` in a docstring becomes a link where the name is documented, otherwise code
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "ignore-module-all": True}  # each object where it is defined, once
autodoc_inherit_docstrings = False  # inherited docstrings describe torch, not oche
autodoc_preserve_defaults = True
autodoc_mock_imports = ["triton"]  # documents the Triton kernels where triton cannot be installed
suppress_warnings = ["ref.python"]  # annotations whose name exists in several modules; harmless
python_maximum_signature_line_length = 88


class Help(SphinxDirective):
    """``{oche-help} search`` shows what ``oche search --help-all`` prints."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        from oche.cli.main import main

        for module in (Path(oche.__file__).parent / "cli").glob("*.py"):
            self.env.note_dependency(str(module))
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
            main([self.arguments[0], "--help-all"] if self.arguments[0] != "oche" else ["--help"])
        if not out.getvalue():
            raise self.error(f"oche {self.arguments[0]} --help printed nothing")
        block = nodes.literal_block(out.getvalue(), out.getvalue())
        block["language"] = "text"
        return [block]


class Deviations(SphinxDirective):
    """``{oche-deviations}`` lists what `deviations_of` finds in the source."""

    def run(self) -> list[nodes.Node]:
        from deviations_of import deviations

        package = Path(oche.__file__).parent
        listing = nodes.definition_list()
        for file, stated in deviations(package).items():
            self.env.note_dependency(str(package.parent / file))
            paragraphs = [self._paragraph(owner, text) for owner, text in stated]
            term = nodes.term("", "", nodes.literal(file, file))
            listing += nodes.definition_list_item("", term, nodes.definition("", *paragraphs))
        return [listing]

    @staticmethod
    def _paragraph(owner: str, text: str) -> nodes.paragraph:
        plain = text.replace("``", "").replace("`", "")
        name = [nodes.literal(owner, owner), nodes.Text(": ")] if owner else []
        return nodes.paragraph("", "", *name, nodes.Text(plain))


class Modules(SphinxDirective):
    """``.. oche-modules:: oche.data dataset`` documents a package and all public modules below it, those named first."""

    has_content = False
    required_arguments = 1
    optional_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        lines = []
        for name in modules_of(self.arguments[0], *" ".join(self.arguments[1:]).split()):
            lines += [name, "-" * len(name), "", f".. automodule:: {name}", ""]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def modules_of(package: str, *first: str) -> list[str]:
    """``package`` and the public modules below it: those called ``first``, then the others by name."""
    folder = importlib.import_module(package).__path__
    names = [m.name.removeprefix(f"{package}.") for m in pkgutil.walk_packages(folder, f"{package}.")]
    public = [name for name in names if not any(part.startswith("_") for part in name.split("."))]
    missing = set(first) - set(public)
    if missing:
        raise ValueError(f"{package} has no modules {', '.join(sorted(missing))}")
    return [package, *(f"{package}.{name}" for name in [*first, *sorted(set(public) - set(first))])]


def setup(app: Sphinx) -> dict[str, bool]:
    os.environ |= {"COLUMNS": "96", "NO_COLOR": "1", "TERM": "dumb"}  # the help's tables are drawn for this terminal
    app.add_directive("oche-help", Help)
    app.add_directive("oche-deviations", Deviations)
    app.add_directive("oche-modules", Modules)
    return {"parallel_read_safe": False}
