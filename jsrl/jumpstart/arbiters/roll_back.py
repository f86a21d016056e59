"""Guided Roll-Back: the explorer's share rises while the score holds, and falls back if it drops.

After the public code of Guided Roll-Back RL (LaurenYTaylor/GuidedRollBackRL, ``grbrl_utils.py``).
What differs, since no evaluations are asked for here: the score is the mean over training
episodes, the guide's score that of its first episodes alone, and the roll-back goes to the stage
before that scored best at its last visit.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from jsrl.core.arbitration import ArbiterState, Beginning, Decision
from jsrl.core.errors import UserError
from jsrl.core.ranges import at_least, one_of
from jsrl.core.streams import Streams
from jsrl.jumpstart.arbiters.base import ArbiterOptions, Rule, arbiters, probability, step_draws

STAGE, BACK, SUM, COUNT, SCORES = "stage", "rolled back", "sum", "count", "scores"
BEGAN_IN = "began in stage"


@dataclass
class RollBackOptions(ArbiterOptions):
    """Of ``arbiter=roll_back``."""

    # By how much the explorer's share rises at once; null: 1 - tolerance^(1/horizon).
    increment: float | None = 0.1
    # Steps of an episode of the guide, for an increment of null.
    horizon: int = 100
    # A score below this share of the guide's rolls back.
    tolerance: float = 0.9
    # Training episodes over which a score is the mean.
    window: int = 10
    # What is scored: success or return.
    metric: str = "success"

    @property
    def goes_by_success(self) -> bool:
        return self.metric == "success"

    @property
    def rise(self) -> float:
        """By how much the explorer's share rises at once.

        With 1 - tolerance^(1/horizon) the guide acts in all steps of its episode with a probability
        that is the tolerance.
        """
        if self.increment is not None:
            return self.increment
        return 1 - float(self.tolerance ** (1 / self.horizon))

    def check(self) -> None:
        super().check()
        at_least("arbiter.horizon", self.horizon, 1)
        at_least("arbiter.window", self.window, 1)
        one_of("arbiter.metric", self.metric, ("success", "return"))
        probability("arbiter.tolerance", self.tolerance)
        if not 0.001 <= self.rise <= 1:
            raise UserError(
                f"arbiter.increment={self.increment} must lie in [0.001, 1]; with null it follows "
                f"from arbiter.tolerance={self.tolerance} and arbiter.horizon={self.horizon}, and "
                f"is {self.rise:.4g} here"
            )


@arbiters.register("roll_back", RollBackOptions)
class RollBack(Rule):
    """The explorer acts at every step with a probability that is the share of a stage.

    Stage k has the share min(1, k·increment); in stage 0 the guide acts alone. A stage is scored
    once ``window`` training episodes that began in it have ended: m is their mean, g the guide's,
    which is the first score of stage 0. With m ≥ g the next stage begins, or, after a roll-back,
    the highest stage that was scored. With m < g - (1 - tolerance)·|g| the share rolls back to the
    other scored stage below with the best score, the higher one of equals. Else the stage stays.

    Args:
        options: see ``RollBackOptions``.
    """

    def __init__(self, options: RollBackOptions) -> None:
        self.options = options
        rise = options.rise
        stages = next(k for k in range(1, 1001) if k * rise >= 1 - 1e-9)
        self.shares = torch.tensor([min(1.0, k * rise) for k in range(stages)] + [1.0])

    def fresh(self, num_seeds: int, num_envs: int) -> ArbiterState:
        """Stage 0, and no scores."""
        whole = torch.zeros(num_seeds, dtype=torch.int64)
        seeds = {
            STAGE: whole,
            BACK: whole.bool(),
            SUM: torch.zeros(num_seeds, dtype=torch.float64),
            COUNT: whole,
            SCORES: torch.full((num_seeds, len(self.shares)), torch.nan, dtype=torch.float64),
        }
        began_in = torch.zeros(num_seeds, num_envs, dtype=torch.int64)
        return ArbiterState(seeds, {BEGAN_IN: began_in})

    def begin(self, beginning: Beginning, state: ArbiterState, streams: Streams) -> ArbiterState:
        """Count the episodes that ended, one after the other, and move on or roll back."""
        seeds = {name: tensor.clone() for name, tensor in state.seeds.items()}
        by_success = self.options.goes_by_success
        values = beginning.successes if by_success else beginning.returns
        counted = beginning.finished & values.isfinite()
        for seed, env in counted.nonzero().tolist():
            if state.episodes[BEGAN_IN][seed, env] == seeds[STAGE][seed]:
                seeds[SUM][seed] += values[seed, env]
                seeds[COUNT][seed] += 1
                if seeds[COUNT][seed] == self.options.window:
                    self._score({name: tensor[seed] for name, tensor in seeds.items()})
        stage = seeds[STAGE].unsqueeze(1)
        began_in = torch.where(beginning.mask, stage, state.episodes[BEGAN_IN])
        return ArbiterState(seeds, {BEGAN_IN: began_in})

    def decide(
        self, moment: Decision, state: ArbiterState, streams: Streams
    ) -> tuple[Float[Tensor, "S E"], ArbiterState]:
        share = self.shares[state.seeds[STAGE]].unsqueeze(1)
        return (step_draws(moment, streams) < share).float(), state

    def _score(self, seed: dict[str, Tensor]) -> None:
        """The stage of one seed is scored; its tensors, which are views, are changed in place."""
        stage, mean = int(seed[STAGE]), float(seed[SUM]) / self.options.window
        scores = seed[SCORES]
        scores[stage] = scores[0] if stage == 0 and not scores[0].isnan() else mean
        guide = float(scores[0])
        seed[SUM].zero_()
        seed[COUNT].zero_()
        scored = [k for k, score in enumerate(scores.tolist()) if score == score]
        if mean >= guide:
            after = scored[-1] if seed[BACK] else min(stage + 1, len(scores) - 1)
            seed[BACK].fill_(value=False)
        elif mean < guide - (1 - self.options.tolerance) * abs(guide) and stage > 0:
            after = max((k for k in scored if k < stage), key=lambda k: (float(scores[k]), k))
            seed[BACK].fill_(value=True)
        else:
            after = stage
        seed[STAGE].fill_(after)
