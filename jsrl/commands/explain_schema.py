"""The typed schema of ``jsrl explain``."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from jsrl.monitor.attribution.agreement import HIGH, SALIENT_MASS
from jsrl.monitor.attribution.methods import MethodOptions
from jsrl.monitor.attribution.study import MEAN


@dataclass
class ExplainOptions:
    """What is asked of the attributions."""

    # Columns that a person declares relevant, by name or number; a part's name is all of it.
    relevant: list[Any] = field(default_factory=list)
    # What contributions are measured from, for methods that ask: mean, of what the policy sees, or
    # zero.
    baseline: str = MEAN
    # The salient columns of a step are the fewest that hold this share of its attribution.
    mass: float = SALIENT_MASS
    # From where on a score of overlap is high.
    high: float = HIGH
    # How many networks with random weights are the control; 0: none.
    controls: int = 5


@dataclass
class ExplainJobConfig:
    """``jsrl explain run=DIR``.

    What each column of the observation contributes to the answers of the run's
    exploration-policies in fresh episodes, how much of it lies in the columns that are declared
    relevant, and the same for random weights.
    """

    # The folder of the run.
    run: str = MISSING
    method: MethodOptions = MISSING
    explain: ExplainOptions = field(default_factory=ExplainOptions)
    # One of the run's seeds; null: all of them.
    seed: int | None = None
    # Episodes of each seed.
    episodes: int = 10
    # Steps from one that is explained to the next.
    interval: int = 5
    # Environments that run at a time.
    num_envs: int = 10
    # A folder for the report; null: explain in the run.
    output: str | None = None
