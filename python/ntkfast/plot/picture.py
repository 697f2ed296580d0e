"""Figures that show themselves in a notebook. Only `style` imports this: it needs matplotlib."""

from __future__ import annotations

import io

from matplotlib.figure import Figure


class Picture(Figure):
    """A figure that no window system and no global state knows of."""

    def _repr_png_(self) -> bytes:
        """Show the picture in a notebook, without a magic line before."""
        stream = io.BytesIO()
        self.savefig(stream, format="png", dpi=100)
        return stream.getvalue()
