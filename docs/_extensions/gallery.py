"""Makes the gallery from ``examples/``: of each script its story, its picture and its code.

Scripts are not run here, tests/test_examples.py does that: together they take minutes. The pictures
are stored in ``_static/gallery``; a script without one has its story and its code.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1]
FOLDER = DOCS / "_gallery"  # no part of the repository
HEAD = """\
# Gallery

Experiments, most of them from papers. Each page says what a script shows, and has its code.
`python examples/NAME.py --out NAME.png` draws the picture; `--help` lists options for other sizes.

"""


def story(script: Path) -> tuple[str, str]:
    """Return the first line of a script's docstring and the rest."""
    text = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or script.stem
    title, _, rest = text.partition("\n")
    return title.rstrip("."), rest.strip("\n")


def write(app: Any) -> None:
    """Write a page for each script, and one that shows them all."""
    FOLDER.mkdir(exist_ok=True)
    index, names = [HEAD, ":::::{container} cards\n"], []
    for script in sorted((DOCS.parent / "examples").glob("*.py")):
        name, (title, rest) = script.stem, story(script)
        names.append(name)
        stored = (DOCS / "_static" / "gallery" / f"{name}.png").exists()
        picture = f"![{title}](../_static/gallery/{name}.png)\n\n" if stored else ""
        index.append(f"::::{{container}} card\n{picture}[{title}]({name}.md)\n::::\n")
        code = f"```{{literalinclude}} ../../examples/{name}.py\n:language: python\n```\n"
        page = f"# {title}\n\n{picture}{rest}\n\n## `examples/{name}.py`\n\n{code}"
        _keep(FOLDER / f"{name}.md", page)
    index += [":::::\n", "```{toctree}\n:hidden:\n", *names, "```\n"]
    _keep(FOLDER / "index.md", "\n".join(index))


def _keep(path: Path, text: str) -> None:
    """Write a file unless it has this text: Sphinx reads again what is newer."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def setup(app: Any) -> dict[str, bool]:
    """Write when a build begins."""
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
