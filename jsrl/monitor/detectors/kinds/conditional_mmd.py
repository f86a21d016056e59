"""The maximum mean discrepancy of an embedding among samples that were answered alike.

An attack that turns one answer into another leaves the embeddings of both apart from those that are
answered so by right. Where only the shares of the answers change, as in another part of a maze,
nothing is found.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from jsrl.core.ranges import at_least
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
    embedding,
)
from jsrl.monitor.detectors.pooled import PooledWindows
from jsrl.monitor.detectors.splits import Splits
from jsrl.monitor.detectors.window import Window

FEWEST = 4
"""Samples that an answer must have on both sides together to be compared."""


@dataclass
class ConditionalMMDOptions(DetectorOptions):
    """Of the detector ``conditional_mmd``."""

    # The layer that is compared; null: the last inner one.
    layer: str | None = None
    # Into how many parts of equal size actions of a Box are divided, by their first principal
    # component.
    parts: int = 4

    def check(self) -> None:
        at_least("monitor.detectors.conditional_mmd.parts", self.parts, 1)


@detectors.register("conditional_mmd", ConditionalMMDOptions)
class ConditionalMMD(Detector):
    """Σ (share of an answer) · (unbiased MMD² among the samples that have it).

    All kernels are of one bandwidth, the median distance of all samples. A sample's score is less
    its mean kernel to the reference samples of its own answer.

    Args:
        options: see ``ConditionalMMDOptions``.
    """

    needs = ("layers", "logits or actions")

    def __init__(self, options: ConditionalMMDOptions) -> None:
        super().__init__(options)

    def statistics(self, both: PooledWindows, splits: Splits) -> list[Statistics]:
        kernel, _ = gaussian_kernel_of_sparse(self._embedding(both.window))
        answers = answers_of(both.window, self.options.parts)
        total = torch.zeros(1, splits.first_side.shape[1], dtype=torch.float64)
        for answer in answers.unique():
            where = (answers == answer).nonzero()[:, 0]
            if len(where) < FEWEST:
                continue
            sums, sizes = sum_over_blocks(kernel[where][:, where], both.blocks[where], both.count)
            found = mmd_of_splits(sums[None], sizes[None], splits.first_side)
            total += len(where) / len(answers) * found
        return [Statistics(self.options.kind, LAYERS, ("conditional MMD",), total)]

    def scores(self, reference: Window, window: Window) -> Float[Tensor, " M"]:
        count = len(reference)
        both = torch.cat([self._embedding(reference), self._embedding(window)])
        kernel, _ = gaussian_kernel_of_sparse(both)
        answers = torch.cat(
            [answers_of(side, self.options.parts, reference) for side in (reference, window)]
        )
        alike = (answers[count:, None] == answers[:count]).double()
        return -(kernel[count:, :count] * alike).sum(1) / alike.sum(1).clamp_min(1)

    def _embedding(self, window: Window) -> Float[Tensor, "N D"]:
        return embedding(window, self.options.layer, "monitor.detectors.conditional_mmd")


def answers_of(window: Window, parts: int, like: Window | None = None) -> Int[Tensor, " N"]:
    """The class that the network chose, or the part of the action space in which the action lies.

    Args:
        window: whose answers.
        parts: into how many parts actions are divided.
        like: the window that decides the parts; None: ``window`` itself.
    """
    if window.classes is not None:
        return window.classes
    actions = (like or window).actions
    assert actions is not None and window.actions is not None
    mean = actions.double().mean(0)
    # The sign of an axis is arbitrary, and decides nothing but the parts' order.
    axis = torch.linalg.svd(actions.double() - mean, full_matrices=False).Vh[0]
    edges = np.quantile(((actions.double() - mean) @ axis).numpy(), np.arange(1, parts) / parts)
    along = (window.actions.double() - mean) @ axis
    return torch.from_numpy(np.searchsorted(edges, along.numpy(), side="right"))
