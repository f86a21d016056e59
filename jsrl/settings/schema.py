"""The typed schema of every command's configuration, registered with Hydra.

Only ``train.py``, ``build.py`` and ``cli.py`` import this module: below them, plain values.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

from omegaconf import MISSING, OmegaConf

from jsrl.datasets import DatasetOptions
from jsrl.guides import GuideOptions
from jsrl.jumpstart.arbiters import ArbiterOptions
from jsrl.jumpstart.curricula import CurriculumOptions
from jsrl.learners import LearnerOptions
from jsrl.loggers import LoggerOptions
from jsrl.monitor.config import MonitorConfig
from jsrl.settings.composition import remember
from jsrl.settings.kinds import REGISTRIES, kind_schema, store_schema
from jsrl.settings.stages import (
    CheckpointConfig,
    EvaluationConfig,
    OfflineConfig,
    OnlineConfig,
    ReplayConfig,
)


@dataclass
class EnvConfig:
    """A Gymnasium environment. ``num_envs`` of them serve each seed."""

    # The Gymnasium id, or module:id.
    id: str = MISSING
    # Environments that collect for each seed.
    num_envs: int = 1
    # The time limit in steps; null: the environment's own.
    max_episode_steps: int | None = None
    # The entry of info that says whether a step has success; terminated: the end of the task does;
    # null: none does.
    success_key: str | None = "success"
    # How several environments are stepped: sync, in this process, or async, in processes.
    vectorisation: str = "sync"
    # Arguments of the environment, as env.kwargs.NAME=VALUE.
    kwargs: dict[str, Any] = field(default_factory=dict)
    # The normalised score is 100·(value - low)/(high - low) of the return or of the success.
    score_metric: str = "return"
    # [low, high] of the normalised score; null: there is none.
    score_range: list[float] | None = None
    # Whether the reward is 1 where the task is solved and 0 elsewhere, as in AntMaze. The presets
    # of IQL shift such rewards, and leave all others as they are.
    sparse_reward: bool = False


@dataclass
class NetworkActivationConfig:
    """The activation of one network's hidden layers, where it is not that of all.

    Null takes what all have. With a ``name``, the parameters of all do not apply.
    """

    # The activation; of actor, critic and value, null is that of all.
    name: str | None = None
    # Whether each hidden layer is normalised before it.
    layer_norm: bool | None = None
    # Of smelu, softplus, silu and gsmelu; null: their default.
    beta: float | None = None
    # Of gsmelu, left of its bend; null: its default.
    negative_slope: float | None = None
    # Of gsmelu, right of its bend; null: its default.
    positive_slope: float | None = None
    # Of gsmelu: half-width of its bend; null: its default.
    alpha: float | None = None
    # Of gsmelu: where its bend lies; null: its default.
    offset: float | None = None


@dataclass
class ActivationConfig:
    """Activation of every hidden layer, and whether the layer is normalised before it.

    The parameters are those of ``jsrl.networks.activations``; null is their default. ``actor``,
    ``critic`` and ``value`` may differ from the rest.
    """

    # The activation; of actor, critic and value, null is that of all.
    name: str = "relu"
    # Whether each hidden layer is normalised before it.
    layer_norm: bool = False
    # Of smelu, softplus, silu and gsmelu; null: their default.
    beta: float | None = None
    # Of gsmelu, left of its bend; null: its default.
    negative_slope: float | None = None
    # Of gsmelu, right of its bend; null: its default.
    positive_slope: float | None = None
    # Of gsmelu: half-width of its bend; null: its default.
    alpha: float | None = None
    # Of gsmelu: where its bend lies; null: its default.
    offset: float | None = None
    actor: NetworkActivationConfig = field(default_factory=NetworkActivationConfig)
    critic: NetworkActivationConfig = field(default_factory=NetworkActivationConfig)
    value: NetworkActivationConfig = field(default_factory=NetworkActivationConfig)


@dataclass
class TrainConfig:
    """``jsrl train``."""

    # A file of configs/experiment, chosen by experiment=NAME.
    experiment: str | None = None
    # The folder of the run, relative to the folder of the command.
    run_dir: str = MISSING
    # Trained side by side in one process, as [0,1,2].
    seeds: list[int] = field(default_factory=lambda: [0])
    # auto, cpu, cuda or cuda:N.
    device: str = "auto"
    # CPU threads of PyTorch.
    threads: int = 1
    # What differs between the seeds: all, none, minibatch_order, initialisation or environment.
    nondeterminism: str = "all"
    # What ``jsrl train`` returns to a sweeper that searches; null: success, else return.
    objective: str | None = None
    # What the exploration-policy begins from: cold, nothing; warm, the guide's networks; naive,
    # its actor alone.
    start: str = "cold"
    env: EnvConfig = MISSING
    dataset: DatasetOptions = MISSING
    learner: LearnerOptions = MISSING
    guide: GuideOptions = MISSING
    curriculum: CurriculumOptions = MISSING
    # With a default, so that runs of before it was there can still be read.
    arbiter: ArbiterOptions = field(default_factory=lambda: ArbiterOptions("handover"))
    activation: ActivationConfig = MISSING
    logger: LoggerOptions = MISSING
    # With a default, so that runs of before it was there can still be read.
    monitor: MonitorConfig = field(default_factory=MonitorConfig)
    offline: OfflineConfig = field(default_factory=OfflineConfig)
    online: OnlineConfig = field(default_factory=OnlineConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)


@dataclass
class ResumeConfig(TrainConfig):
    """``jsrl resume run=DIR``: the other keys are those that the run's folder holds."""

    # The folder of the run to go on with.
    run: str = MISSING


def register() -> None:
    """Make the schema known to Hydra, under the names that the files in ``configs`` start from."""
    OmegaConf.register_new_resolver("jsrl.sparse", _where_sparse, replace=True)
    OmegaConf.register_new_resolver("jsrl.with_data", _with_data, replace=True)
    remember()
    store_schema("", "train_schema", TrainConfig)
    store_schema("env", "schema", EnvConfig)
    store_schema("activation", "schema", ActivationConfig)
    store_schema("monitor", "schema", MonitorConfig)
    for registry in REGISTRIES:
        for name in registry.names():
            # A kind of another package has no file in configs: its schema is the option itself.
            own = registry[name].make.__module__.startswith("jsrl.")
            store_schema(
                registry.group.replace(".", "/"),
                f"{name}_schema" if own else name,
                registry[name].options,
                partial(kind_schema, registry, name),
            )


def _where_sparse(sparse: Any, other: Any, *, _root_: Any) -> Any:
    """``${jsrl.sparse:A,B}``: A where the environment's reward is sparse, else B."""
    return sparse if _root_.env.sparse_reward else other


def _with_data(some: Any, none: Any, *, _root_: Any) -> Any:
    """``${jsrl.with_data:A,B}``: A where there are offline data, B with ``dataset=none``."""
    return none if _root_.dataset.kind == "none" else some
