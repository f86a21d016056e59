"""Deep k-nearest-neighbours: whether a sample's neighbours in each layer speak for its answer.

Papernot and McDaniel, "Deep k-Nearest Neighbors: Towards Confident, Interpretable and Robust Deep
Learning", 2018, section IV: the nonconformity of an answer is over how many neighbours, in all
layers together, another answer is known; its p-value among held-out samples is the credibility.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from jsrl.core.ranges import at_least
from jsrl.monitor.detectors.kinds.base import (
    LAYERS,
    DetectorOptions,
    Scorer,
    ScoringDetector,
    detectors,
)
from jsrl.monitor.detectors.window import Window

ROWS_AT_A_TIME = 1024


@dataclass
class DeepKNNOptions(DetectorOptions):
    """Of the detector ``deep_knn``."""

    # Neighbours in each layer.
    neighbours: int = 10
    # Layers whose neighbours count; empty: all inner ones, or all that there are.
    layers: list[str] = field(default_factory=list)

    def check(self) -> None:
        at_least("monitor.detectors.deep_knn.neighbours", self.neighbours, 1)


@dataclass(frozen=True)
class NeighbourIndex:
    """The trusted samples among which neighbours are looked for.

    Args:
        layers: the activations in which they are looked for.
        answers: one-hot classes ``[N, K]``, or actions.
        episode: of each sample: neighbours are of other episodes, since steps of an episode are
            near each other anyway.
        count: k.
        is_class: whether answers are classes.
    """

    layers: tuple[Float[Tensor, "N _"], ...]
    answers: Float[Tensor, "N K"]
    episode: Int[Tensor, " N"]
    count: int
    is_class: bool

    def look_up(
        self, layers: tuple[Tensor, ...], answers: Tensor, episode: Tensor
    ) -> tuple[Float[Tensor, "N K"], Float[Tensor, " N"]]:
        """The nonconformity of every answer there is, and the mean distance to the neighbours.

        Where answers are actions, there is one: the mean distance between a sample's action and
        those of its neighbours.
        """
        nonconformity = torch.zeros(len(episode), answers.shape[1] if self.is_class else 1).double()
        distance = torch.zeros(len(episode), dtype=torch.float64)
        for trusted, values in zip(self.layers, layers, strict=True):
            near, places = self._nearest(trusted, values, episode)
            # Relative to how far the trusted samples lie apart in this layer.
            scale = trusted.std(0).square().sum().sqrt()
            distance += near.mean(1) / torch.where(scale > 0, scale, 1.0)
            known = self.answers[places]
            if self.is_class:
                nonconformity += known.shape[1] - known.sum(1)
            else:
                nonconformity += (known - answers[:, None]).norm(dim=2).mean(1, keepdim=True)
        return nonconformity, distance / len(layers)

    def _nearest(
        self, trusted: Tensor, values: Tensor, episode: Tensor
    ) -> tuple[Float[Tensor, "N k"], Int[Tensor, "N k"]]:
        near, places = [], []
        for some, own in zip(
            values.split(ROWS_AT_A_TIME), episode.split(ROWS_AT_A_TIME), strict=True
        ):
            distances = torch.cdist(some, trusted)
            distances[own[:, None] == self.episode] = torch.inf
            found = distances.topk(min(self.count, len(trusted)), largest=False)
            # Fewer neighbours than wanted, where nearly all are of the same episode.
            near.append(found.values.nan_to_num(posinf=0.0))
            places.append(found.indices)
        return torch.cat(near), torch.cat(places)


def credibility(
    calibration: Float[Tensor, " M"], nonconformity: Float[Tensor, "N K"]
) -> Float[Tensor, " N"]:
    """The largest p-value of any answer: the share of calibration samples that conform as little.

    Args:
        calibration: of held-out samples, the nonconformity of their true answers.
        nonconformity: of each answer.
    """
    ordered = calibration.sort().values
    smaller = torch.searchsorted(ordered, nonconformity.contiguous() - 1e-9)
    return (1 - smaller.double() / len(ordered)).amax(1)


@detectors.register("deep_knn", DeepKNNOptions)
class DeepKNN(ScoringDetector):
    """How little credible the answers are, and how far off the neighbours are.

    Every trusted sample is held out in its turn, with its whole episode. For actions of a Box the
    nonconformity is how far the action lies from those of the neighbours.

    Args:
        options: see ``DeepKNNOptions``.
    """

    needs = ("layers", "logits or actions")
    fits = True
    family = LAYERS
    score_names = ("incredibility", "distance")

    def __init__(self, options: DeepKNNOptions) -> None:
        super().__init__(options)

    def fit(self, trusted: Window) -> Scorer:
        is_class = trusted.logits is not None
        labels = trusted.classes if trusted.labels is None else trusted.labels
        layers, answers = self._layers(trusted), _answers(trusted, labels)
        index = NeighbourIndex(
            *(layers, answers, trusted.episode, self.options.neighbours, is_class)
        )
        own, _ = index.look_up(layers, answers, trusted.episode)
        of_true = (own * answers).sum(1) if is_class else own[:, 0]

        def scorer(window: Window) -> Float[Tensor, "2 N"]:
            asked = _answers(window, window.classes)
            found, distance = index.look_up(self._layers(window), asked, window.episode)
            return torch.stack([1 - credibility(of_true, found), distance])

        return scorer

    def _layers(self, window: Window) -> tuple[Tensor, ...]:
        names = self.options.layers or window.inner_layers or tuple(window.layers)
        return tuple(window.layers[name].double().cpu() for name in names)


def _answers(window: Window, labels: Int[Tensor, " N"] | None) -> Float[Tensor, "N K"]:
    """One-hot classes, or actions as they are."""
    if window.logits is not None and labels is not None:
        count = window.logits.shape[1]
        return torch.nn.functional.one_hot(labels.long(), count).double()
    assert window.actions is not None
    return window.actions.double()
