"""The distance of Kolmogorov and Smirnov: whether a column takes its values in other shares.

A sensor whose values are rounded, clipped or of two kinds may keep its mean and its spread.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from jsrl.monitor.detectors.margins.margin import Columns, filled, register_margin


@register_margin("kolmogorov_smirnov")
def kolmogorov_smirnov(columns: Columns) -> Float[Tensor, "B D"]:
    """sup |F of the episode - F of all episodes together| of the column.

    F is the share of steps with at most a value; the distance is that of Smirnov's two-sample test
    (1948, Annals of Mathematical Statistics 19). Here it is compared between episodes, under the
    splits of all margins, since steps of one episode are not independent.
    """
    counts = columns.steps_of_episodes()
    everyone = torch.arange(1, len(columns.z) + 1, dtype=torch.float64) / max(len(columns.z), 1)
    found = torch.zeros(columns.count, columns.z.shape[1], dtype=torch.float64)
    for place, values in enumerate(columns.z.unbind(1)):
        ordered, order = values.sort()
        hits = torch.nn.functional.one_hot(columns.blocks[order], columns.count)
        shares = hits.double().cumsum(0) / counts.clamp_min(1)
        # Of equal values, the last one has all of them at or below it.
        last = torch.ones(len(ordered), dtype=torch.bool)
        last[:-1] = ordered[1:] != ordered[:-1]
        found[:, place] = (shares - everyone[:, None])[last].abs().amax(0)
    return filled(found, counts)
