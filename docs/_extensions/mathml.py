"""Formulas as MathML, made by docutils: readable in any browser, without a script or a network."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.errors import SphinxError

# Bars of norms: without this, browsers take them for operators and put spaces around them.
TIGHT = r'<mo form="prefix" stretchy="false" lspace="0" rspace="0">\1</mo>'


def converted(node: Any, *, display: bool) -> str:
    """Return a formula as MathML; what docutils does not know is an error, never raw TeX."""
    try:
        found = str(tex2mathml(node.astext(), as_block=display))
        return re.sub(r"<mo[^>]*>([|∣‖∥])</mo>", TIGHT, found)
    except MathError as error:
        raise SphinxError(f"{node.source}:{node.line}: {error}\n{node.astext()}") from error


def visit_math(self: Any, node: Any) -> None:
    """Write a formula in a line of text."""
    self.body.append(f'<span class="math">{converted(node, display=False)}</span>')
    raise nodes.SkipNode


def visit_math_block(self: Any, node: Any) -> None:
    """Write a formula of its own, which scrolls where it is wider than the page."""
    self.body.append(f'<div class="math" tabindex="0">{converted(node, display=True)}</div>\n')
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, bool]:
    """Register the renderer."""
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
