"""The figures of a sweep's report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jsrl.core.files import write_whole
from jsrl.core.pictures import new_figure, png
from jsrl.networks.activations import make_activation
from jsrl.report.figures import COLOURS
from jsrl.reproducibility.compare import Row, family_of

REACH = 3.0
"""Activations are drawn from -this to this."""

PANEL = (4.6, 4.0)
OTHERS = ("gelu", "silu", "softplus", "tanh")


def draw_plane(path: Path, rows: Sequence[Row], title: str) -> bool:
    """Draw the difference between replicas against the score, a panel for each level.

    A curve joins an activation's β, of SmeLU from ReLU on; filled marks are normalised. Bars are
    95 % intervals.

    Returns:
        False if there is no score to draw against, and no file.
    """
    rows = [row for row in rows if row.scores is not None]
    levels = list(dict.fromkeys(row.level for row in rows))
    if not levels:
        return False
    figure = _figure(len(levels))
    panels = figure.subplots(1, len(levels), squeeze=False)[0]
    for axis, level in zip(panels, levels, strict=True):
        here = [row for row in rows if row.level == level]
        families = dict.fromkeys((family_of(row.record)[0], row.norm) for row in here)
        for name, norm in families:
            own = [r for r in here if (family_of(r.record)[0], r.norm) == (name, norm)]
            _join(axis, own)
        for row in here:
            _mark(axis, row, several_norms=len({r.norm for r in here}) > 1)
        axis.set_title(f"level: {level}", fontsize=9)
        axis.set_xlabel(str(here[0].score))
        axis.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel(f"difference between replicas: {rows[0].measure}", fontsize=9)
    handles: dict[str, Any] = {}
    for axis in panels:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(handles.values(), handles, loc="outside right upper", frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    _save(figure, path)
    return True


def draw_activations(path: Path, cells: Sequence[Mapping[str, Any]]) -> None:
    """Draw every activation of a sweep, and its derivative."""
    figure = _figure(2)
    value_axis, slope_axis = figure.subplots(1, 2)
    seen: dict[str, tuple[Mapping[str, Any], Any]] = {}
    for cell in cells:
        for activation in cell["activation"].values():
            seen.setdefault(str(activation), (cell, activation))
    for cell, activation in seen.values():
        x = torch.linspace(-REACH, REACH, 601, dtype=torch.float64, requires_grad=True)
        y = make_activation(activation)(x)
        (slope,) = torch.autograd.grad(y.sum(), x)
        for axis, line in ((value_axis, y), (slope_axis, slope)):
            axis.plot(
                x.detach().numpy(),
                line.detach().numpy(),
                color=_colour(cell),
                label=cell["label"],
                linewidth=1.4,
            )
    for axis, name in ((value_axis, "activation"), (slope_axis, "its derivative")):
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("x")
        axis.grid(color="0.92", linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    value_axis.legend(frameon=False, fontsize=8)
    _save(figure, path)


def draw_slices(path: Path, cells: Sequence[Mapping[str, Any]]) -> bool:
    """Draw the loss along a line through the trained weights, and its second derivative.

    Returns:
        False if no cell has one, and no file.
    """
    chosen = [c for c in cells if c.get("slice") is not None and not c["layer_norm"]]
    chosen = [c for c in chosen if c["level"] == chosen[-1]["level"]]
    if not chosen:
        return False
    figure = _figure(2)
    loss_axis, slope_axis = figure.subplots(1, 2)
    for cell in chosen:
        distance, loss = np.array(cell["slice"]["distance"]), np.array(cell["slice"]["loss"])
        style = {"color": _colour(cell), "label": cell["label"], "linewidth": 1.2}
        loss_axis.plot(distance, loss, **style)
        step = distance[1] - distance[0]
        slope_axis.plot(distance[1:-1], np.diff(loss, 2) / step**2, **style)
    loss_axis.set_yscale("log")
    for axis, name in ((loss_axis, "loss"), (slope_axis, "its second derivative")):
        axis.set_title(f"{name} along a random direction", fontsize=9)
        axis.set_xlabel("distance from the trained weights, in their own length")
        axis.spines[["top", "right"]].set_visible(False)
    loss_axis.legend(frameon=False, fontsize=8)
    _save(figure, path)
    return True


def _join(axis: Axes, rows: Sequence[Row]) -> None:
    """The curve over β of one activation."""
    ordered = sorted(rows, key=lambda row: family_of(row.record)[1] or 0.0)
    if len(ordered) > 1:
        x = [row.scores.value for row in ordered if row.scores is not None]
        y = [row.difference.value for row in ordered]
        axis.plot(x, y, color="0.6", linewidth=1, zorder=1)


def _mark(axis: Axes, row: Row, *, several_norms: bool) -> None:
    assert row.scores is not None
    x, y = row.scores, row.difference
    colour = _colour(row.record)
    for estimate, horizontal in ((x, True), (y, False)):
        low, high = estimate.interval or (estimate.value, estimate.value)
        ends = ([low, high], [y.value] * 2) if horizontal else ([x.value] * 2, [low, high])
        axis.plot(*ends, color=colour, linewidth=1, alpha=0.6, zorder=2)
    suffix = (" + LayerNorm" if row.norm else "") if several_norms else ""
    axis.plot(
        x.value,
        y.value,
        "o" if family_of(row.record)[0] == "smelu" else "s",
        color=colour,
        fillstyle="full" if row.norm or not several_norms else "none",
        markersize=7,
        label=row.label + suffix,
        zorder=3,
    )


def _colour(record: Mapping[str, Any]) -> Any:
    """Black for ReLU, lighter along SmeLU's β; a colour of its own for the rest."""
    name, beta = family_of(record)
    if name == "smelu":
        return "black" if not beta else colormaps["viridis"](0.15 + 0.75 * min(beta, 2) / 2)
    return COLOURS[1 + OTHERS.index(name)] if name in OTHERS else "0.4"


def _figure(panels: int) -> Figure:
    return new_figure(PANEL[0] * panels, PANEL[1])


def _save(figure: Figure, path: Path) -> None:
    write_whole(path, png(figure))
