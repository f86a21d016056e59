"""What an attacker wants of a policy of one seed, as differentiable objectives.

Shapes: N rows, O columns, A action size, K critics.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.monitor.studies.attacks import Objective
from jsrl.networks.seed_policy import SeedPolicy

Values = Callable[[Float[Tensor, "N O"], Float[Tensor, "N A"]], Float[Tensor, "K N"]]
"""Q(s, a) of each critic, differentiable by the actions."""


def require_differentiable(policy: object) -> SeedPolicy:
    """The policy, if attacks can be made on it.

    Raises:
        UserError: if it sees images, or is of a class without layers to differentiate.
    """
    if not isinstance(policy, SeedPolicy):
        raise UserError(
            f"the policy's class {type(policy).__name__} is no SeedPolicy, so that its answers "
            "cannot be differentiated; jsrl attack model=module:factory takes a plain network"
        )
    if policy.images:
        raise UserError(
            f"the policy sees the images {', '.join(policy.images)}; attacks change numbers of a "
            "vector, not bytes: attack its network by model=module:factory, which takes images "
            "as real numbers"
        )
    return policy


def answers(policy: SeedPolicy, rows: Float[Tensor, "N O"]) -> Shaped[Tensor, "N *A"]:
    """The policy's actions without noise."""
    found: Tensor = policy.mode(Observation(rows[None]))[0]
    return found


def policy_logits(policy: SeedPolicy) -> Callable[[Float[Tensor, "N O"]], Float[Tensor, "N n"]]:
    """What a policy that chooses says of each choice: log-probabilities, or values."""

    def logits(rows: Float[Tensor, "N O"]) -> Float[Tensor, "N n"]:
        found: Tensor = policy(rows[None])[0]
        return found

    return logits


def largest_distance(
    answer: Callable[[Float[Tensor, "N O"]], Float[Tensor, "N A"]],
) -> Objective:
    """‖a(x + δ) - a(x)‖² (Zhang et al. 2020, arXiv 2003.08938, section 3.4)."""

    def objective(
        perturbed: Float[Tensor, "N O"], clean: Float[Tensor, "N O"]
    ) -> Float[Tensor, " N"]:
        with torch.no_grad():
            before = answer(clean)
        return (answer(perturbed) - before).square().sum(-1)

    return objective


def another_choice(
    logits: Callable[[Float[Tensor, "N O"]], Float[Tensor, "N n"]],
) -> Objective:
    """By how much another choice is ahead of what is chosen without the attack.

    It is the margin of Carlini and Wagner 2017 (arXiv 1608.04644, section IV-A, f₆), above 0 where
    the choice has changed.
    """

    def objective(
        perturbed: Float[Tensor, "N O"], clean: Float[Tensor, "N O"]
    ) -> Float[Tensor, " N"]:
        with torch.no_grad():
            chosen = logits(clean).argmax(-1, keepdim=True)
        found = logits(perturbed)
        own = found.gather(-1, chosen)
        return (found.scatter(-1, chosen, -torch.inf).amax(-1, keepdim=True) - own)[:, 0]

    return objective


def lowest_value(policy: SeedPolicy, values: Values) -> Objective:
    """-Q(s, a(s + δ)), by the least critic (Pattanaik et al. 2018, arXiv 1712.03632)."""

    def objective(
        perturbed: Float[Tensor, "N O"], clean: Float[Tensor, "N O"]
    ) -> Float[Tensor, " N"]:
        return -values(clean, answers(policy, perturbed)).amin(0)

    return objective


def change_of_answers(before: Shaped[Tensor, "N *A"], after: Shaped[Tensor, "N *A"]) -> float:
    """Mean absolute change of the numbers of actions, or the share of choices that changed."""
    if before.is_floating_point():
        return float((after - before).abs().mean())
    return float((after != before).double().mean())
