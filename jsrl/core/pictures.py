"""What all figures have in common: how one begins, and the bytes of its PNG."""

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOTS_PER_INCH = 150
"""A figure of six inches is as wide as a README is shown."""


def new_figure(width: float, height: float, dots_per_inch: int = DOTS_PER_INCH) -> "Figure":
    """A figure that needs no screen.

    Args:
        width: in inches.
        height: in inches.
        dots_per_inch: of the picture.
    """
    # Most commands draw nothing, and Matplotlib takes half a second to load.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dots_per_inch, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def png(figure: "Figure") -> bytes:
    """The picture, without the version of what drew it: equal figures are equal files."""
    image = io.BytesIO()
    figure.savefig(image, format="png", metadata={"Software": None})
    return image.getvalue()
