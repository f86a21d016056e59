"""What a policy looks at in episodes, and what it would look at with random weights.

Shapes: N rows, O columns, G groups of identical columns, K outputs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from jsrl.core.streams import Streams
from jsrl.monitor.attribution.agreement import (
    HIGH,
    SALIENT_MASS,
    category_shares,
    declared_groups,
    grouped,
    share_inside,
    shared_interest,
)
from jsrl.monitor.attribution.control import randomised
from jsrl.monitor.attribution.explanation import explain, explainable_network
from jsrl.monitor.attribution.methods import MethodOptions

MEAN, ZERO = "mean", "zero"
BASELINES = (MEAN, ZERO)


@dataclass(frozen=True)
class StepsSeen:
    """N steps of a policy.

    Args:
        rows: the observations.
        episode: of each step, from 0.
        time: the steps since its episode began.
        good: whether its episode went well.
    """

    rows: Float[Tensor, "N O"]
    episode: Int[NDArray[np.int64], " N"]
    time: Int[NDArray[np.int64], " N"]
    good: Bool[NDArray[np.bool_], " N"]


@dataclass(frozen=True)
class Question:
    """What is asked of attributions.

    Args:
        method: how they are made.
        groups: the columns in groups of identical ones.
        relevant: the columns that are declared relevant; without any there is no agreement.
        baseline: one of ``BASELINES``.
        mass: see ``agreement.salient``.
        high: see ``agreement.shared_interest``.
    """

    method: MethodOptions
    groups: Sequence[Sequence[int]]
    relevant: Sequence[int] = ()
    baseline: str = MEAN
    mass: float = SALIENT_MASS
    high: float = HIGH


@dataclass(frozen=True)
class Answer:
    """What one network looks at.

    Args:
        contributions: of each group to each output, with their sign.
        weights: the share of each group in the attribution of a step, over all outputs; NaN where
            no column contributes anything.
        residual: the largest distance of a sum of contributions from its output.
        complete: whether the method promises that there is none.
        inside: the share of each step in the declared groups; None without any.
        categories: of Shared Interest for each step; None without declared columns.
    """

    contributions: Float[Tensor, "N K G"]
    weights: Float[Tensor, "N G"]
    residual: float
    complete: bool
    inside: Float[Tensor, " N"] | None
    categories: tuple[str, ...] | None

    @property
    def explained(self) -> Bool[Tensor, " N"]:
        """Whether any column contributes to a step's answer."""
        return self.weights.isfinite().all(1)

    def mean_weights(self) -> list[float | None]:
        """The mean share of each group over the steps that are explained."""
        own = self.weights[self.explained]
        return own.mean(0).tolist() if len(own) else [None] * self.weights.shape[1]

    def summary(self) -> dict[str, Any]:
        """Numbers over all steps; None where there is nothing to take them of."""
        found: dict[str, Any] = {
            "weights": self.mean_weights(),
            "explained": float(self.explained.double().mean()),
            "residual": self.residual if self.complete else None,
            "inside": None,
            "half_inside": None,
            "categories": None,
        }
        if self.inside is not None and self.categories is not None:
            own = self.inside[self.explained]
            if len(own):
                found["inside"] = float(own.mean())
                found["half_inside"] = float((own >= 0.5).double().mean())
            found["categories"] = category_shares(self.categories)
        return found


def ask(network: nn.Module, steps: StepsSeen, question: Question, *, chooses: bool) -> Answer:
    """What a network looks at.

    Args:
        network: as ``explain`` takes it; of one that chooses, the numbers it chooses by.
        steps: in which.
        question: what is asked.
        chooses: whether only the largest output of each row is explained.

    Raises:
        UserError: if the method does not fit the network.
    """
    rows, targets = steps.rows.double(), None
    if chooses:
        with torch.no_grad():
            targets = network(rows).argmax(1)
    start = rows.mean(0) if question.baseline == MEAN else torch.zeros(rows.shape[1])
    found = explain(network, rows, question.method, baseline=start, targets=targets)
    contributions = grouped(found.columns, question.groups)
    strength = contributions.abs().sum(1)
    declared = declared_groups(question.groups, question.relevant)
    inside, categories = None, None
    if question.relevant:
        inside = share_inside(strength, declared)
        given = (declared, steps.good, question.mass, question.high)
        categories = tuple(shared_interest(strength, *given))
    return Answer(
        contributions,
        strength / strength.sum(1, keepdim=True),
        float(found.residual.abs().max()),
        found.complete,
        inside,
        categories,
    )


def ask_with_control(
    policy: nn.Module, steps: StepsSeen, question: Question, controls: int, streams: Streams
) -> tuple[Answer, list[Answer]]:
    """What a policy looks at, and what networks of its form with random weights do.

    Args:
        policy: of one seed.
        steps: in which; the random networks are shown the same.
        question: what is asked.
        controls: how many random networks there are.
        streams: of one seed: their weights are drawn from them.

    Raises:
        UserError: if the method does not fit the network.
    """
    made = explainable_network(policy, steps.rows.double())
    own = ask(made.network, steps, question, chooses=made.chooses)
    others = [
        ask(
            randomised(made.network, streams.child("control", number)),
            *(steps, question),
            chooses=made.chooses,
        )
        for number in range(controls)
    ]
    return own, others


def mean_summary(answers: Sequence[Answer]) -> dict[str, Any] | None:
    """The means of the summaries of several networks, None without any."""
    if not answers:
        return None
    summaries = [answer.summary() for answer in answers]
    return {name: _mean([summary[name] for summary in summaries]) for name in summaries[0]}


def _mean(values: Sequence[Any]) -> Any:
    """Of numbers, or of each entry of lists and mappings; what is None is left out."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    if isinstance(known[0], Mapping):
        return {name: _mean([value[name] for value in known]) for name in known[0]}
    if isinstance(known[0], list):
        return [_mean(list(entries)) for entries in zip(*known, strict=True)]
    return float(np.mean(known))
