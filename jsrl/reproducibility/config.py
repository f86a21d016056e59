"""The typed schema of ``jsrl reproducibility``: that of ``jsrl train``, and what is measured."""

from dataclasses import dataclass, field

from jsrl.settings.schema import TrainConfig


@dataclass
class SupervisedConfig:
    """A supervised task in place of an experiment; see ``reproducibility.tasks``.

    ``task``: ``smooth_teacher`` or ``digits``; null for an experiment. ``seed`` draws its examples.
    The rest is described in ``reproducibility.supervised.SupervisedSettings``.
    """

    # smooth_teacher or digits; null: an experiment.
    task: str | None = None
    # Draws its examples.
    seed: int = 0
    # Widths of the hidden layers.
    hidden: list[int] = field(default_factory=lambda: [64, 64])
    # Examples in an update.
    batch_size: int = 64
    # Of Adam.
    learning_rate: float = 1e-3
    # Of the weights: orthogonal, pytorch or variance_scaling.
    initialisation: str = "orthogonal"
    # Of each replica.
    updates: int = 5000
    # Updates over which a replica's own change is measured.
    churn_updates: int = 500


@dataclass
class MeasureConfig:
    """What the replicas of an experiment are compared on.

    ``states``: of each kind, held out and visited. ``episodes`` of each replica, from the same
    start states, ``num_envs`` at a time: they give the returns and the visited states.
    """

    # Of each kind, held out and visited, on which replicas are compared.
    states: int = 2000
    # Of each replica, from the same start states.
    episodes: int = 50
    # Environments at a time.
    num_envs: int = 10


@dataclass
class ReproducibilityConfig(TrainConfig):
    """``jsrl reproducibility``: ``replicas`` take the place of ``seeds``.

    ``output``: where the report goes; null is beside the cells.
    """

    # Trained side by side, in place of seeds.
    replicas: int = 8
    supervised: SupervisedConfig = field(default_factory=SupervisedConfig)
    measure: MeasureConfig = field(default_factory=MeasureConfig)
    # A folder for the report; null: beside the cells.
    output: str | None = None
