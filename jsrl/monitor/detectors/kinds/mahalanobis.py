"""How far an embedding lies from what its class or its action leads to expect.

Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial
Attacks", NeurIPS 2018, section 2.1: a mean for each class and one covariance for all.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.monitor.detectors.kinds.base import (
    LAYERS,
    DetectorOptions,
    Scorer,
    ScoringDetector,
    detectors,
    embedding,
)
from jsrl.monitor.detectors.window import Window

Distances = Callable[[Window, Float[Tensor, "N D"]], Float[Tensor, " N"]]


@dataclass
class MahalanobisOptions(DetectorOptions):
    """Of the detector ``mahalanobis``."""

    # The layer whose activations are the embedding; null: the last inner one.
    layer: str | None = None
    # How far the covariance shrinks towards its mean variance, in [0, 1]: units may be equal.
    shrinkage: float = 0.05

    def check(self) -> None:
        if not 0 <= self.shrinkage <= 1:
            raise UserError(
                f"monitor.detectors.mahalanobis.shrinkage={self.shrinkage} must lie in [0, 1]"
            )


@dataclass(frozen=True)
class ActionConditional:
    """A linear Gaussian model of a layer given the action: features = W·[1, action] + noise.

    For continuous actions it does what Lee et al. do with a mean for each class and one covariance
    for all.
    """

    weights: Float[Tensor, "A1 D"]
    precision: Float[Tensor, "D D"]

    def distances(
        self, features: Float[Tensor, "N D"], actions: Float[Tensor, "N A"]
    ) -> Float[Tensor, " N"]:
        """Squared Mahalanobis distance of every sample from what its action predicts."""
        residual = features.double() - _with_one(actions) @ self.weights
        return ((residual @ self.precision) * residual).sum(1)


@dataclass(frozen=True)
class ClassConditional:
    """A Gaussian for each class, all of one covariance."""

    means: Float[Tensor, "K D"]
    precision: Float[Tensor, "D D"]

    def distances(self, features: Float[Tensor, "N D"]) -> Float[Tensor, " N"]:
        """Squared Mahalanobis distance of every sample from the class that is nearest."""
        # In coordinates in which the covariance is the identity.
        root = torch.linalg.cholesky(self.precision)
        return torch.cdist(features.double() @ root, self.means @ root).square().amin(1)


def fit_action_conditional(
    features: Float[Tensor, "N D"], actions: Float[Tensor, "N A"], shrinkage: float = 0.05
) -> ActionConditional:
    """Fit the weights by least squares, and the covariance of the residuals."""
    design = _with_one(actions)
    weights = torch.linalg.lstsq(design, features.double(), driver="gelsd").solution
    return ActionConditional(weights, _precision(features.double() - design @ weights, shrinkage))


def fit_class_conditional(
    features: Float[Tensor, "N D"], classes: Int[Tensor, " N"], shrinkage: float = 0.05
) -> ClassConditional:
    """The mean of every class that there is, and the covariance within classes."""
    names, which = classes.unique(return_inverse=True)
    values = features.double()
    means = values.new_zeros(len(names), values.shape[1]).index_add_(0, which, values)
    means /= torch.bincount(which)[:, None]
    return ClassConditional(means, _precision(values - means[which], shrinkage))


@detectors.register("mahalanobis", MahalanobisOptions)
class Mahalanobis(ScoringDetector):
    """The squared Mahalanobis distance from the nearest class, or from what the action predicts.

    Classes are the true ones where the reference has labels, else those that the network chose.

    Args:
        options: see ``MahalanobisOptions``.
    """

    needs = ("layers", "logits or actions")
    fits = True
    family = LAYERS
    score_names = ("distance",)

    def __init__(self, options: MahalanobisOptions) -> None:
        super().__init__(options)

    def fit(self, trusted: Window) -> Scorer:
        options = self.options
        features = self._features(trusted)
        if trusted.logits is not None:
            classes = trusted.classes if trusted.labels is None else trusted.labels
            assert classes is not None
            of_classes = fit_class_conditional(features, classes, options.shrinkage)
            return lambda window: of_classes.distances(self._features(window))[None]
        assert trusted.actions is not None
        of_actions = fit_action_conditional(features, trusted.actions, options.shrinkage)

        def scorer(window: Window) -> Float[Tensor, "1 N"]:
            assert window.actions is not None
            return of_actions.distances(self._features(window), window.actions)[None]

        return scorer

    def _features(self, window: Window) -> Float[Tensor, "N D"]:
        return embedding(window, self.options.layer, "monitor.detectors.mahalanobis")


def _precision(residual: Float[Tensor, "N D"], shrinkage: float) -> Float[Tensor, "D D"]:
    covariance = residual.T @ residual / len(residual)
    variance = covariance.diagonal().mean()
    # Relative to the unit of the features; without any residual, every scale will do.
    scale = torch.where(variance > 0, variance, 1.0)
    identity = torch.eye(len(covariance), dtype=covariance.dtype)
    return torch.linalg.inv((1 - shrinkage) * covariance + shrinkage * scale * identity)


def _with_one(actions: Float[Tensor, "N A"]) -> Float[Tensor, "N A1"]:
    return torch.cat([torch.ones(len(actions), 1), actions], 1).double()
