"""The maximum mean discrepancy of every layer, within cells of the same actor and time."""

import torch
from jaxtyping import Float
from torch import Tensor

from jsrl.monitor.capture.layers import INPUTS, OUTPUTS
from jsrl.monitor.detectors.kernels import (
    gaussian_kernel_of_sparse,
    mmd_of_splits,
    sum_over_blocks,
)
from jsrl.monitor.detectors.kinds.base import (
    LAYERS,
    Detector,
    DetectorOptions,
    Statistics,
    detectors,
)
from jsrl.monitor.detectors.pooled import Cell, PooledWindows
from jsrl.monitor.detectors.splits import Splits
from jsrl.monitor.detectors.window import Window


@detectors.register("mmd")
class JointMMD(Detector):
    """The unbiased MMD² of each layer, with a Gaussian kernel; see ``jsrl.monitor.detectors.mmd``.

    The inputs, the inner layers and the outputs are families of their own. A sample's score is how
    little it is like the reference: less its mean kernel to it, over the layers.

    Args:
        options: nothing to set.
    """

    needs = ("layers",)

    def __init__(self, options: DetectorOptions) -> None:
        super().__init__(options)

    def statistics(self, both: PooledWindows, splits: Splits) -> list[Statistics]:
        cells, kernels, sizes = kernels_of_cells(both)
        if not cells:
            return []
        values = mmd_of_splits(torch.stack(kernels), torch.stack(sizes), splits.first_side).cpu()
        found = []
        for family in dict.fromkeys(family_of(layer) for layer, _, _ in cells):
            own = [i for i, (layer, _, _) in enumerate(cells) if family_of(layer) == family]
            names = tuple(cells[i] for i in own)
            found.append(Statistics(self.options.kind, family, names, values[own]))
        return found

    def scores(self, reference: Window, window: Window) -> Float[Tensor, " M"]:
        count = len(reference)
        found = torch.zeros(len(window), dtype=torch.float64)
        for name, values in reference.layers.items():
            both = torch.cat([values, window.layers[name]])
            kernel, _ = gaussian_kernel_of_sparse(both)
            found -= kernel[count:, :count].mean(1).double().cpu()
        return found / len(reference.layers)


def kernels_of_cells(both: PooledWindows) -> tuple[list[Cell], list[Tensor], list[Tensor]]:
    """For each cell its kernel, summed over pairs of episodes, and its steps of each episode.

    Returns:
        The cells, their summed kernels ``[B, B]`` and their numbers of steps ``[B]``.
    """
    cells, kernels, sizes = [], [], []
    for name, values in both.window.layers.items():
        for (actor, number), where in both.cells.items():
            kernel, _ = gaussian_kernel_of_sparse(values[where.to(values.device)])
            summed, of_blocks = sum_over_blocks(kernel, both.blocks[where], both.count)
            cells.append((name, actor, number))
            kernels.append(summed)
            sizes.append(of_blocks)
    return cells, kernels, sizes


def family_of(layer: str) -> str:
    """The family of a layer: the inner ones are one."""
    return layer if layer in (INPUTS, OUTPUTS) else LAYERS
