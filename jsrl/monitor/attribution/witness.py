"""Which samples a difference is due to: the witness of each, with conformal p-values.

Gretton et al. 2012, section 2.3, for the witness; Bates et al., "Testing for Outliers with
Conformal p-values", 2023, for p-values of single samples and the false discovery rate among them.
"""

from dataclasses import dataclass

import scipy
import torch
from jaxtyping import Float, Int
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.monitor.detectors.kernels import gaussian_kernel
from jsrl.monitor.detectors.sample_checks import checked_samples


@dataclass(frozen=True)
class RankedSamples:
    """K samples of y, the most suspicious one first.

    Args:
        indices: the places of the samples in y.
        scores: the leave-one-out witness, which is the mean kernel to the rest of y less the mean
            kernel to x.
        p_values: the conformal p-value, which is the share of reference samples with such a score,
            at least 1/(N + 1).
        adjusted: these p-values after Benjamini and Hochberg, over all of y. If the samples are
            marked where it is below q, a share q of the marked is expected to be innocent.
    """

    indices: Int[Tensor, " K"]
    scores: Float[Tensor, " K"]
    p_values: Float[Tensor, " K"]
    adjusted: Float[Tensor, " K"]


def rank_samples(x: Tensor, y: Tensor, top: int = 100) -> RankedSamples:
    """The ``top`` samples of y that are least like x and most like the rest of y.

    A sample is ranked among those of x as if it were one of them: each is scored by its mean
    kernel to the rest of y less that to x with the sample in it. So the p-values are exact where
    samples are exchangeable; steps of an episode are not, so that between them p-values order, and
    do not decide.

    Args:
        x: samples of the reference ``[N, D]``, of any real type.
        y: samples in question ``[M, D]``.
        top: how many are wanted, at least 1.

    Raises:
        UserError: if shapes or devices do not fit, a side has fewer than two samples, a number is
            not finite, or none is wanted.
    """
    if top < 1:
        raise UserError(f"top={top} must be at least 1")
    x, y = checked_samples(x, y)
    kernel, _ = gaussian_kernel(torch.cat([x, y]))
    n, m = len(x), len(y)
    to_x, to_y, between = kernel[:, :n].sum(1), kernel[:, n:].sum(1), kernel[:n, n:]
    scores = to_y[n:] / (m - 1) - to_x[n:] / n
    of_others = (to_y[:n, None] - between) / (m - 1) - (to_x[:n, None] + between) / n
    # Rounding aside: equal samples have equal scores.
    above = (of_others >= scores - 1e-6).sum(0)
    p = (1 + above).double() / (n + 1)
    adjusted = torch.from_numpy(scipy.stats.false_discovery_control(p.cpu().numpy(), method="bh"))
    order = scores.argsort(descending=True, stable=True)[:top]
    return RankedSamples(order, scores[order].double(), p[order], adjusted.to(p.device)[order])
