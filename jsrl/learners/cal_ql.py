"""Calibrated Q-learning, Cal-QL (Nakamoto et al. 2023, arXiv 2303.05479), on top of CQL."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.core.protocols import Metrics
from jsrl.core.ranges import one_of
from jsrl.core.returns import ReturnsToGo
from jsrl.core.transitions import TransitionBatch
from jsrl.learners.cql import CQL, CQLOptions
from jsrl.learners.options import LearnerInputs, learners


@dataclass
class CalQLOptions(CQLOptions):
    """Of ``learner=cal_ql``: the options of CQL, and how episodes that were cut are read."""

    # What follows where a time limit cuts an episode: repeat, the last reward for ever, as the
    # authors have it for sparse rewards and for tasks without an end; or zero, nothing.
    after_time_limit: str = "repeat"

    def check(self) -> None:
        super().check()
        one_of("learner.after_time_limit", self.after_time_limit, ("repeat", "zero"))
        if self.after_time_limit == "repeat" and self.discount >= 1:
            raise UserError(
                f"learner.discount={self.discount}: a reward that goes on for ever after a time "
                "limit has no finite return; set learner.discount below 1, or "
                "learner.after_time_limit=zero"
            )


@learners.register("cal_ql", CalQLOptions)
class CalQL(CQL):
    """Calibrated Q-learning for S seeds at once.

    In CQL's soft maximum, the values of the policy's actions are bounded from below by the return
    that the behaviour policy had from that state (equation 5.1 of the paper), so that values do not
    fall below those of a policy that is known to do as well. Collected transitions have a bound
    once their episode has ended.

    Args:
        options: see ``CalQLOptions``.
        inputs: what every learner gets.
    """

    def __init__(self, options: CalQLOptions, inputs: LearnerInputs) -> None:
        super().__init__(options, inputs)
        goes_on = options.after_time_limit == "repeat"
        rule = ReturnsToGo(options.discount, *options.reward_transform(), goes_on)
        self.needs = replace(self.needs, returns_to_go=rule)

    def bounded(
        self, values: Float[Tensor, "S K B n"], batch: TransitionBatch
    ) -> tuple[Float[Tensor, "S K B n"], Metrics]:
        """The values of the policy's actions, at least the return-to-go of the transition."""
        if batch.return_to_go is None:
            raise UserError(
                "learner=cal_ql was given a minibatch without return_to_go; make its stores with "
                "returns_to_go=learner.needs.returns_to_go"
            )
        bound = batch.return_to_go[:, None, :, None]
        raised = (values < bound).float().mean((1, 2, 3))
        return torch.maximum(values, bound), {"conservative/raised": raised}
