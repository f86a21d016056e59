"""Adversarial training of policies that are learnt by likelihood.

Goodfellow, Shlens and Szegedy 2015 (arXiv 1412.6572, section 6): half of the loss is that of
observations as they are, the other half that of observations which the fast gradient sign method
has moved to where the loss is larger.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.ranges import at_least
from jsrl.core.specs import EnvSpec
from jsrl.learners.options import ActorOptions, LearnerInputs


@dataclass
class RobustOptions(ActorOptions):
    """Of learners whose policy may be trained against an attack."""

    # By how much an attack moves each column of the observations that the policy learns from, in
    # standard deviations of the dataset, or in the column's unit without a dataset; 0: not at all.
    adversarial_epsilon: float = 0.0

    neutral: ClassVar[tuple[tuple[str, Any], ...]] = (("adversarial_epsilon", 0.0),)

    def check(self) -> None:
        super().check()
        at_least("learner.adversarial_epsilon", self.adversarial_epsilon, 0)

    def check_environment(self, spec: EnvSpec) -> None:
        super().check_environment(spec)
        if self.adversarial_epsilon > 0 and spec.observation.images:
            names = ", ".join(image.name for image in spec.observation.images)
            raise UserError(
                f"learner.adversarial_epsilon={self.adversarial_epsilon} moves the vector of an "
                f"observation, and env.id={spec.id!r} has the images {names}, which it would leave "
                "as they are; set it to 0"
            )


class AdversarialTraining:
    """Half of a loss in the worst place nearby.

    Args:
        options: says how near.
        inputs: of the learner.
    """

    def __init__(self, options: RobustOptions, inputs: LearnerInputs) -> None:
        std, epsilon = inputs.observation_std, options.adversarial_epsilon
        unit = torch.ones(inputs.observation.size) if std is None else std
        self._sizes = (epsilon * unit).to(inputs.device) if epsilon > 0 else None

    def loss(
        self,
        loss_of: Callable[[Observation], Float[Tensor, " S"]],
        observation: Observation,
    ) -> Float[Tensor, " S"]:
        """The loss of the observations, or the mean of that and of the loss under attack.

        Args:
            loss_of: differentiable by the vector of observations ``[S, B]``.
            observation: as it is, without images.
        """
        clean = loss_of(observation)
        if self._sizes is None:
            return clean
        vector = observation.vector.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(loss_of(Observation(vector)).sum(), vector)
        moved = vector.detach() + self._sizes * gradient.sign()
        return (clean + loss_of(Observation(moved))) / 2
