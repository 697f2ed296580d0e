"""How Sphinx builds the documentation: warnings are errors, examples of docstrings are executed.

The code of the pages is executed by tests/test_pages.py, as a reader would paste it.
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import Any

import ntkfast

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_extensions"))

project = "ntkfast"
author = "ntkfast developers"
copyright = "2026, ntkfast developers"
release = version = ntkfast.__version__

needs_sphinx = "8.1"
nitpicky = False
exclude_patterns = ["_build"]
templates_path = ["_templates"]
default_role = "py:obj"  # single backticks link to what they name

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.doctest",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "mathml",
    "gallery",
    "pictures",
]

# Text
myst_enable_extensions = ["colon_fence", "dollarmath", "amsmath", "deflist"]
myst_heading_anchors = 3
html_math_renderer = "mathml"

# Reference
autodoc_typehints = "none"  # the NumPy-style sections already say the types
autodoc_member_order = "bysource"
autodoc_mock_imports = ["torch", "gpytorch", "jax"]  # large, and the pages need no more than names
autosummary_generate = True
# Names that differ by letter case alone would share a file on Windows and macOS: the one with a
# capital letter has another file.
_names = re.findall(r"^   ([\w.]+)$", (HERE / "api.md").read_text(encoding="utf-8"), re.MULTILINE)
_small = {name for name in _names if name == name.lower()}
autosummary_filename_map = {
    f"ntkfast.{name}": f"ntkfast.{name.lower()}-class"
    for name in _names
    if name.lower() in _small and name not in _small
}
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
numpydoc_validation_checks = {"GL01", "GL03", "GL05", "PR02", "SS01"}
numpydoc_validation_exclude = {r"\.__"}

# Examples
doctest_global_setup = "import numpy as np\nimport ntkfast as nf"
doctest_default_flags = 0
trim_doctest_flags = True
copybutton_exclude = ".linenos, .gp, .go"

# Look
html_theme = "furo"
html_title = f"ntkfast {release}"
html_static_path = ["_static"]
html_css_files = ["ntkfast.css"]
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#1d5c8f", "color-brand-content": "#1d5c8f"},
    "dark_css_variables": {"color-brand-primary": "#7cb8e8", "color-brand-content": "#7cb8e8"},
}


def keep_text(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Let ``|x|`` be a norm and no substitution, and initials after ``.. [1]`` no numbered list.

    What methods of scikit-learn refer to is in its own documentation: the words stay.
    """
    for number, line in enumerate(lines):
        line = re.sub(r":(?:ref|term):`([^`<]+?)(?: <[^`]*>)?`", r"\1", line)
        line = re.sub(r"^(\s*\.\. \[[^\]]+\] )(?=[A-Z]\.)", r"\1\\", line)
        if "``" not in line and not line.lstrip().startswith((">>>", "...")):
            line = re.sub(r"(?<!\\)\|", r"\\|", line)
        lines[number] = line


def show_arguments(
    app: Any, what: str, name: str, obj: Any, options: Any, arguments: str | None, returns: Any
) -> tuple[str, Any] | None:
    """Show how a class is made whose base stands in for one of a package that is not there."""
    if what != "class" or arguments != "(*args, **kwargs)":
        return None
    signature = inspect.signature(obj.__init__)
    _, *own = (one.replace(annotation=one.empty) for one in signature.parameters.values())
    return str(inspect.Signature(own)), returns


def setup(app: Any) -> None:
    """Register the hooks above."""
    app.connect("autodoc-process-docstring", keep_text)
    app.connect("autodoc-process-signature", show_arguments)
