"""The schema of a run's stages and of what it writes: parts of ``jsrl train``."""

from dataclasses import dataclass
from typing import Any


@dataclass
class OfflineConfig:
    """Pre-training."""

    # Updates of pre-training.
    updates: int = 20_000


@dataclass
class OnlineConfig:
    """Online training. ``steps`` are those of each seed, over all its environments."""

    # Environment steps of each seed, over all its environments.
    steps: int = 100_000
    # Updates for each environment step of a seed.
    updates_per_step: float = 1.0
    # A share in [0, 1], or ``merged``: uniform over the union of both buffers. 0 with dataset=none.
    offline_fraction: Any = "${jsrl.with_data:0.25,0.0}"
    # Steps before the first update.
    learning_starts: int = 1000
    # Transitions of each seed that are kept.
    buffer_size: int = 100_000
    # Steps of the guide before online learning, from which only the critic learns.
    critic_warmup_steps: int = 0


@dataclass
class ReplayConfig:
    """How collected transitions are kept, and what else may be learnt from them."""

    # A folder for the images of transitions, mapped from files; null keeps them in memory.
    directory: str | None = None
    # her: other goals for goal environments, as reached later in the same episode; null: none.
    relabel: str | None = None
    # With her: how many transitions get another goal for each that keeps its own.
    goals: float = 4.0


@dataclass
class EvaluationConfig:
    """Evaluation in environments of its own, ``num_envs`` for each seed at a time."""

    # Steps between two evaluations.
    interval: int = 5000
    # Of each seed and policy in an evaluation.
    episodes: int = 20
    # Of each seed and policy at the end.
    final_episodes: int = 100
    # Whether the combined policy is evaluated where no curriculum decides by it.
    combined: bool = True
    # Environments of each seed at a time.
    num_envs: int = 10


@dataclass
class CheckpointConfig:
    """``interval``: updates (offline) or steps (online); ``keep`` the last so many."""

    # Updates (offline) or steps (online) between two checkpoints.
    interval: int = 5000
    # How many are kept, the newest.
    keep: int = 2
