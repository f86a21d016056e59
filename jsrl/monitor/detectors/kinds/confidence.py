"""How sure the network is of its answers, with its probabilities calibrated by a temperature.

Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 4.2: logits are divided
by the temperature with which the likelihood of held-out labels is largest.
"""

from dataclasses import dataclass

import scipy
import torch
from jaxtyping import Float, Int
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.core.ranges import above_zero
from jsrl.monitor.capture.layers import OUTPUTS
from jsrl.monitor.detectors.kinds.base import (
    DetectorOptions,
    Scorer,
    ScoringDetector,
    detectors,
)
from jsrl.monitor.detectors.window import Window

LOG_TEMPERATURES = (-5.0, 5.0)
"""Between which the logarithm of a temperature is looked for."""


@dataclass
class ConfidenceOptions(DetectorOptions):
    """Of the detector ``confidence``."""

    # What logits are divided by; null: fitted on the reference, which must have labels.
    temperature: float | None = 1.0
    # A line is told where the mean confidence of a window is below; null: no bound.
    least: float | None = None

    def check(self) -> None:
        if self.temperature is not None:
            above_zero("monitor.detectors.confidence.temperature", self.temperature)
        if self.least is not None and not 0 < self.least < 1:
            raise UserError(
                f"monitor.detectors.confidence.least={self.least} must lie between 0 and 1"
            )


@detectors.register("confidence", ConfidenceOptions)
class Confidence(ScoringDetector):
    """1 - the largest probability, after temperature scaling.

    Args:
        options: see ``ConfidenceOptions``.
    """

    needs = ("logits",)
    family = OUTPUTS
    score_names = ("1 - confidence",)

    def __init__(self, options: ConfidenceOptions) -> None:
        super().__init__(options)
        self.fits = options.temperature is None

    def fit(self, trusted: Window) -> Scorer:
        temperature = self.options.temperature
        if temperature is None:
            if trusted.labels is None:
                raise UserError(
                    "monitor.detectors.confidence.temperature=null is fitted on labels, which the "
                    "reference does not have; give a number, such as fit_temperature finds"
                )
            assert trusted.logits is not None
            temperature = fit_temperature(trusted.logits, trusted.labels)
        return lambda window: 1 - confidence_of(window, temperature)[None]

    def breaches(self, window: Window) -> list[str]:
        least, temperature = self.options.least, self.options.temperature or 1.0
        if least is None:
            return []
        mean = float(confidence_of(window, temperature).mean())
        return [f"mean confidence {mean:.3f} is below {least}"] if mean < least else []


def confidence_of(window: Window, temperature: float) -> Float[Tensor, " N"]:
    """The largest probability of each sample."""
    assert window.logits is not None
    return (window.logits.double().cpu() / temperature).softmax(1).amax(1)


def fit_temperature(logits: Float[Tensor, "N K"], labels: Int[Tensor, " N"]) -> float:
    """The temperature T with which the mean of -log softmax(logits/T) at the labels is smallest.

    It is looked for between e⁻⁵ and e⁵, one of which it is where labels are all as predicted.
    """
    values = logits.double().cpu()
    true = labels.long().cpu()

    def loss(log_temperature: float) -> float:
        scaled = values / float(torch.tensor(log_temperature).double().exp())
        return float(torch.nn.functional.cross_entropy(scaled, true))

    found = scipy.optimize.minimize_scalar(loss, bounds=LOG_TEMPERATURES, method="bounded")
    return float(torch.tensor(found.x).double().exp())
