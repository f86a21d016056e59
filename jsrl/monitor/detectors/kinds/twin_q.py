"""How far critics are apart on what is done: they agree where they were trained together."""

import torch

from jsrl.core.errors import UserError
from jsrl.monitor.detectors.kinds.base import (
    VALUES,
    DetectorOptions,
    Scorer,
    ScoringDetector,
    detectors,
)
from jsrl.monitor.detectors.window import Window


@detectors.register("twin_q", DetectorOptions)
class TwinQ(ScoringDetector):
    """The largest Q less the smallest, of the same state and action; of two critics |Q₁ - Q₂|.

    Args:
        options: nothing to set.
    """

    needs = ("values",)
    family = VALUES
    score_names = ("disagreement",)

    def __init__(self, options: DetectorOptions) -> None:
        super().__init__(options)

    def fit(self, trusted: Window) -> Scorer:
        return disagreement


def disagreement(window: Window) -> torch.Tensor:
    """The range of the critics' values ``[1, N]``.

    Raises:
        UserError: if there is a single critic.
    """
    values = window.values
    assert values is not None
    if values.shape[1] < 2:
        raise UserError(
            "monitor.detectors=twin_q compares critics, and there is one only; leave it out"
        )
    low, high = values.double().cpu().aminmax(dim=1)
    return (high - low)[None]
