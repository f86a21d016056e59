"""JSRL's handover: the guide acts in the first h steps of an episode (Uchendu et al. 2023).

h comes from the curriculum, is drawn when an episode begins, and kept to its end.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from jsrl.core.arbitration import ArbiterState, Decision
from jsrl.core.streams import Streams
from jsrl.jumpstart.arbiters.base import ArbiterOptions, Rule, arbiters


@dataclass
class HandoverOptions(ArbiterOptions):
    """Of ``arbiter=handover``."""

    uses_guide_steps = True


@arbiters.register("handover", HandoverOptions)
class Handover(Rule):
    """The guide acts iff t < h.

    Args:
        options: which has nothing that the rule itself looks at.
    """

    def __init__(self, options: HandoverOptions | None = None) -> None:
        self.options = options

    def guide_acts(
        self, times: Int[NDArray[np.int64], " N"], guide_steps: Int[NDArray[np.int64], " N"]
    ) -> Bool[NDArray[np.bool_], " N"]:
        """See ``DecidesByClock``."""
        acts: NDArray[np.bool_] = times < guide_steps
        return acts

    def decide(
        self, moment: Decision, state: ArbiterState, streams: Streams
    ) -> tuple[Float[Tensor, "S E"], ArbiterState]:
        return (moment.times >= moment.guide_steps).float(), state
