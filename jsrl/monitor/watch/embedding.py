"""Pictures of activations: reference against current, in a plane."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from jsrl.core.pictures import new_figure, png
from jsrl.report.figures import COLOURS

PANEL_INCHES = 2.6
MOST_COLUMNS = 3
MOST_POINTS = 1000
"""Of each side: more hide one another."""


def principal_plane(
    reference: Float[NDArray[np.float32], "N D"], current: Float[NDArray[np.float32], "M D"]
) -> tuple[Float[NDArray[np.float64], "N P"], Float[NDArray[np.float64], "M P"]]:
    """Both sides in the two principal components of the reference (one, if D is 1)."""
    mean = reference.mean(0, dtype=np.float64)
    _, _, axes = np.linalg.svd(reference - mean, full_matrices=False)
    plane = axes[:2].T
    return (reference - mean) @ plane, (current - mean) @ plane


def draw_embedding(
    layers: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]],
    labels: Sequence[str] = ("reference", "current"),
) -> bytes:
    """A PNG with a panel for each layer: reference and current activations in a plane."""
    columns = min(MOST_COLUMNS, len(layers))
    rows = -(-len(layers) // columns)
    figure = new_figure(PANEL_INCHES * columns, PANEL_INCHES * rows + 0.4)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, (name, sides) in zip(axes, layers.items(), strict=False):
        planes = principal_plane(*sides)
        for points, label, colour in zip(planes, labels, COLOURS, strict=False):
            some = points[:: max(1, len(points) // MOST_POINTS)]
            second = some[:, 1] if some.shape[1] > 1 else np.zeros(len(some))
            axis.scatter(some[:, 0], second, s=4, color=colour, alpha=0.5, label=label, lw=0)
        axis.set_title(name, fontsize=8)
        axis.tick_params(labelsize=6)
    for axis in axes[len(layers) :]:
        axis.set_axis_off()
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=2, markerscale=3, fontsize=8)
    figure.suptitle("Activations in the two principal components of the reference", fontsize=9)
    return png(figure)
