"""Which samples a difference is due to: the witness of each, with conformal p-values.

Gretton et al. 2012, section 2.3, for the witness; Bates et al., "Testing for Outliers with
Conformal p-values", 2023, for p-values of single samples and the false discovery rate among them.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from scipy import stats
from torch import Tensor

from jsrl.errors import UserError
from jsrl.monitor.kernels import gaussian_kernel


@dataclass(frozen=True)
class RankedSamples:
    """Samples of y from the most suspicious on, K of them.

    Args:
        indices: their places in y.
        scores: leave-one-out witness: mean kernel to the rest of y less mean kernel to x.
        p_values: conformal: the share of reference samples with such a score, at least 1/(N + 1).
        adjusted: those p-values after Benjamini and Hochberg, over all of y: marking the samples
            where it is below q, a share q of the marked is expected to be innocent.
    """

    indices: Int[Tensor, " K"]
    scores: Float[Tensor, " K"]
    p_values: Float[Tensor, " K"]
    adjusted: Float[Tensor, " K"]


def witness(
    x: Float[Tensor, "N D"], y: Float[Tensor, "M D"]
) -> tuple[Float[Tensor, " N"], Float[Tensor, " M"]]:
    """For every sample of x and of y: mean kernel to y less mean kernel to x, itself left out."""
    kernel, _ = gaussian_kernel(torch.cat([x, y]))
    n, m = len(x), len(y)
    to_x, to_y = kernel[:, :n].sum(1), kernel[:, n:].sum(1)
    of_x = to_y[:n] / m - to_x[:n] / (n - 1)
    of_y = to_y[n:] / (m - 1) - to_x[n:] / n
    return of_x, of_y


def rank_samples(x: Float[Tensor, "N D"], y: Float[Tensor, "M D"], top: int = 100) -> RankedSamples:
    """The ``top`` samples of y that are least like x and most like the rest of y.

    A sample is ranked among those of x as if it were one of them: each is scored by its mean
    kernel to the rest of y less that to x with the sample in it. So the p-values are exact where
    samples are exchangeable; steps of an episode are not, so that between them p-values order, and
    do not decide.

    Raises:
        UserError: if a side has fewer than two samples.
    """
    if len(x) < 2 or len(y) < 2:
        raise UserError(f"x has {len(x)} samples and y {len(y)}; ranking needs at least 2 of each")
    kernel, _ = gaussian_kernel(torch.cat([x, y]))
    n, m = len(x), len(y)
    to_x, to_y, between = kernel[:, :n].sum(1), kernel[:, n:].sum(1), kernel[:n, n:]
    scores = to_y[n:] / (m - 1) - to_x[n:] / n
    of_others = (to_y[:n, None] - between) / (m - 1) - (to_x[:n, None] + between) / n
    # Rounding aside: equal samples have equal scores.
    above = (of_others >= scores - 1e-6).sum(0)
    p = (1 + above).double() / (n + 1)
    adjusted = torch.from_numpy(stats.false_discovery_control(p.cpu().numpy(), method="bh"))
    order = scores.argsort(descending=True, stable=True)[:top]
    return RankedSamples(order, scores[order].double(), p[order], adjusted.to(p.device)[order])
