"""The typed schema of ``jsrl reproducibility``: that of ``jsrl train``, and what is measured."""

from dataclasses import dataclass, field

from hydra.core.config_store import ConfigStore

from jsrl.config import TrainConfig


@dataclass
class SupervisedConfig:
    """A supervised task in place of an experiment; see ``reproducibility.tasks``.

    ``task``: ``smooth_teacher`` or ``digits``; null for an experiment. ``seed`` draws its examples.
    The rest is described in ``reproducibility.supervised.SupervisedSettings``.
    """

    task: str | None = None
    seed: int = 0
    hidden: list[int] = field(default_factory=lambda: [64, 64])
    batch_size: int = 64
    learning_rate: float = 1e-3
    initialisation: str = "orthogonal"
    updates: int = 5000
    churn_updates: int = 500


@dataclass
class MeasureConfig:
    """What the replicas of an experiment are compared on.

    ``states``: of each kind, held out and visited. ``episodes`` of each replica, from the same
    start states, ``num_envs`` at a time: they give the returns and the visited states.
    """

    states: int = 2000
    episodes: int = 50
    num_envs: int = 10


@dataclass
class ReproducibilityConfig(TrainConfig):
    """``jsrl reproducibility``: ``replicas`` take the place of ``seeds``.

    ``output``: where the report goes; null is beside the cells.
    """

    replicas: int = 8
    supervised: SupervisedConfig = field(default_factory=SupervisedConfig)
    measure: MeasureConfig = field(default_factory=MeasureConfig)
    output: str | None = None


def register() -> None:
    """Make the schema known to Hydra."""
    ConfigStore.instance().store(
        name="reproducibility_schema", node=ReproducibilityConfig, provider="jsrl"
    )
