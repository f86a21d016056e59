"""An attacker that knows the monitor, and keeps the statistics that it looks at.

Columns are kept by projection: none moves by more than the means of trusted episodes differ among
themselves. Layers are kept by a penalty on what moves further than that, as in the adaptive attacks
of Carlini and Wagner 2017 (arXiv 1705.07263, section 3.2).

Shapes: N rows, O columns, D units of all layers together.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from jsrl.monitor.capture.layers import INPUTS, OUTPUTS, first_tensor
from jsrl.monitor.studies.attacks import Objective


def half_widths(
    values: Float[Tensor, "N D"], episodes: Int[NDArray[np.int64], " N"], quantile: float
) -> Float[Tensor, " D"]:
    """Half of the range that the means of trusted episodes lie in, but for a share on either side.

    Where every row moves by no more than that, so does the mean of any window.

    Args:
        values: of trusted rows.
        episodes: the number of each row's episode.
        quantile: the share on either side that is left out.
    """
    names, blocks = np.unique(episodes, return_inverse=True)
    where = torch.from_numpy(blocks.reshape(-1))
    sums = torch.zeros(len(names), values.shape[1], dtype=torch.float64)
    sums.index_add_(0, where, values.double())
    means = sums / torch.bincount(where, minlength=len(names))[:, None]
    levels = torch.tensor([quantile, 1 - quantile], dtype=torch.float64)
    low, high = torch.quantile(means, levels, dim=0)
    return ((high - low) / 2).float()


class Activations:
    """The outputs of some layers of a network, with their gradients.

    Args:
        module: the network.
        layers: names of its modules; ``inputs`` and ``outputs`` are left out.
        call: gives rows to the network.
    """

    def __init__(
        self,
        module: nn.Module,
        layers: Sequence[str],
        call: Callable[[Float[Tensor, "N O"]], object],
    ) -> None:
        self.layers = [name for name in layers if name not in (INPUTS, OUTPUTS)]
        self._parts = [module.get_submodule(name) for name in self.layers]
        self._call = call

    def __call__(self, rows: Float[Tensor, "N O"]) -> Float[Tensor, "N D"]:
        """The units of all layers, side by side."""
        found: dict[int, Tensor] = {}

        def keep(part: nn.Module, _: object, output: object) -> None:
            tensor = first_tensor(output)
            if tensor is not None:
                found[id(part)] = tensor.reshape(len(rows), -1)

        handles = [part.register_forward_hook(keep) for part in self._parts]
        try:
            self._call(rows)
        finally:
            for handle in handles:
                handle.remove()
        kept = [found[id(part)] for part in self._parts if id(part) in found]
        return torch.cat(kept, -1) if kept else rows[:, :0]

    def trusted(self, activations: Mapping[str, Tensor]) -> Float[Tensor, "N D"]:
        """The units in trusted rows, as a ``LayerCapture`` recorded them."""
        values = [activations[name].flatten(1) for name in self.layers]
        return torch.cat(values, -1) if values else torch.zeros(len(activations[INPUTS]), 0)


def keeps_statistics(
    objective: Objective,
    activations: Callable[[Float[Tensor, "N O"]], Float[Tensor, "N D"]],
    widths: Float[Tensor, " D"],
    penalty: float,
) -> Objective:
    """The objective, less a penalty on units that move by more than their widths.

    The penalty is the mean over units of ((|h(x + δ) - h(x)| - w)⁺ / w)². Units with a width of 0
    are not looked at.
    """
    looked_at = widths > 0

    def kept(perturbed: Float[Tensor, "N O"], clean: Float[Tensor, "N O"]) -> Float[Tensor, " N"]:
        value = objective(perturbed, clean)
        if not bool(looked_at.any()):
            return value
        with torch.no_grad():
            before = activations(clean)[:, looked_at]
        moved = (activations(perturbed)[:, looked_at] - before).abs()
        excess = (moved / widths[looked_at] - 1).clamp(min=0)
        return value - penalty * excess.square().mean(-1)

    return kept
