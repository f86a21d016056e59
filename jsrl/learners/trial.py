"""The policy of a user's own learner is tried before a run begins, so that what is wrong is told.

Otherwise an action of the wrong shape or range would be told by the environment, if at all.
"""

import torch
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.core.observations import zeros_of
from jsrl.core.protocols import Policy
from jsrl.core.specs import BoxActions
from jsrl.learners.options import LearnerInputs

TOLERANCE = 1e-6
"""How far beyond ±1 rounding may carry an action."""


def try_policy(policy: object, inputs: LearnerInputs, name: str) -> None:
    """See that a policy gives an action, or a choice, for one observation of zeros a seed.

    It is asked for its mode, so that no stream is drawn from. What it draws itself from PyTorch's
    generator is drawn again later.

    Args:
        policy: of S seeds.
        inputs: what its learner was made from.
        name: what messages call the learner.

    Raises:
        UserError: if it cannot act, or what it answers has another type, shape or range. What it
            raises itself is its own, and passes with its traceback.
    """
    if not isinstance(policy, Policy):
        raise UserError(
            f"{name}: its policy() gives {type(policy).__name__}, which has no act(obs, streams); "
            "return a policy such as jsrl.networks.seed_policy.SeedPolicy"
        )
    seeds, actions = len(inputs.streams), inputs.actions
    observation = zeros_of(inputs.observation, seeds, 1).to(inputs.device)
    with torch.no_grad(), torch.random.fork_rng(devices=()):
        answer = policy.act(observation, None)
    shape = (seeds, 1, *actions.chosen_shape)
    if isinstance(actions, BoxActions):
        kind, low, high, slack = torch.float32, -1, 1, TOLERANCE
    else:
        kind, low, high, slack = torch.int64, 0, actions.n - 1, 0
    wrong = _difference(answer, kind, shape)
    # False for NaN too.
    if wrong is None and not ((answer >= low - slack) & (answer <= high + slack)).all():
        wrong = f"{answer[(answer < low) | (answer > high) | answer.isnan()][0].item():g}"
    if wrong is not None:
        meant = "the environment's own bounds" if slack else "the first and the last choice"
        raise UserError(
            f"{name}: its policy answered {wrong} to an observation of zeros for each of {seeds} "
            f"seeds; expected {_named(kind)} {list(shape)} from {low} to {high}, which stand for "
            f"{meant}"
        )


def _difference(answer: object, kind: torch.dtype, shape: tuple[int, ...]) -> str | None:
    """What an answer is, if it is no tensor of this type and shape."""
    if not isinstance(answer, Tensor):
        return f"a {type(answer).__name__}"
    if answer.dtype is kind and answer.shape == shape:
        return None
    return f"{_named(answer.dtype)} {list(answer.shape)}"


def _named(kind: torch.dtype) -> str:
    return str(kind).removeprefix("torch.")
