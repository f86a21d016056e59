"""A person takes over and gives back while the explorer acts, as in HIL-SERL.

Luo et al. 2024 (arXiv 2410.21845; rail-berkeley/hil-serl): whoever trains the policy corrects it,
and the correction is what is stored as the action. Here it is stored as the guide's, so that
everything that knows who acted knows of it. The person is ``guide=human``, who sees every step.
There a hand on the device is the takeover, and half of every minibatch is of demonstrations and
corrections, for which ``online.offline_fraction`` is the closest here.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from jsrl.core.arbitration import TAKEOVER, ArbiterState, Beginning, Decision, Signals
from jsrl.core.errors import UserError
from jsrl.core.streams import Streams
from jsrl.jumpstart.arbiters.base import ArbiterOptions, Rule, arbiters

TAKEN = "taken over"


@dataclass
class HumanOptions(ArbiterOptions):
    """Of ``arbiter=human``."""

    # The key that takes over, by pygame's names as in guide.keys; null: none beside those of
    # actions. Nothing has to be held: the person acts until the other key is pressed.
    take_over: str | None = "space"
    # The key that gives back to the explorer. A new episode begins with the explorer too.
    give_back: str = "return"
    # Whether any key, button or axis that stands for an action takes over as well.
    by_action: bool = True

    advice = "keys of actions, and how fast steps are taken, are options of guide=human"

    def signals(self) -> Signals:
        return Signals(self.take_over, self.give_back, self.by_action)

    def check(self) -> None:
        super().check()
        if self.take_over is None and not self.by_action:
            raise UserError(
                "arbiter.take_over=null with arbiter.by_action=false leaves no way to take over; "
                "name a key, such as arbiter.take_over=space"
            )
        if self.take_over == self.give_back:
            raise UserError(
                f"arbiter.take_over={self.take_over!r} is arbiter.give_back too; name another key"
            )


@arbiters.register("human", HumanOptions)
class HumanOverride(Rule):
    """The guide acts from the step in which it asks to until it gives back, or the episode ends.

    In evaluations the explorer acts alone.

    Args:
        options: see ``HumanOptions``.
    """

    needs = frozenset({TAKEOVER})
    watched = frozenset({TAKEN})

    def __init__(self, options: HumanOptions) -> None:
        self.options = options

    def fresh(self, num_seeds: int, num_envs: int) -> ArbiterState:
        """Nobody has taken over."""
        return ArbiterState(episodes={TAKEN: torch.zeros(num_seeds, num_envs, dtype=torch.bool)})

    def begin(self, beginning: Beginning, state: ArbiterState, streams: Streams) -> ArbiterState:
        """Episodes begin with the explorer."""
        return ArbiterState(episodes={TAKEN: state.episodes[TAKEN] & ~beginning.mask})

    def decide(
        self, moment: Decision, state: ArbiterState, streams: Streams
    ) -> tuple[Float[Tensor, "S E"], ArbiterState]:
        if moment.takeover is None:
            return torch.ones(moment.times.shape), state
        asked, taken = moment.takeover, state.episodes[TAKEN]
        taken = (asked > 0) | (taken & (asked == 0))
        return (~taken).float(), ArbiterState(episodes={TAKEN: taken})
