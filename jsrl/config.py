"""The typed schema of every command's configuration, registered with Hydra.

Only ``train.py``, ``build.py`` and ``cli.py`` import this module: below them, plain values.
"""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from jsrl.grid.config import GridConfig, GridJobConfig
from jsrl.monitor.config import DetectionJobConfig, MonitorConfig, MonitorJobConfig


@dataclass
class EnvConfig:
    """A Gymnasium environment. ``num_envs`` of them serve each seed."""

    id: str = MISSING
    num_envs: int = 1
    max_episode_steps: int | None = None
    success_key: str | None = "success"
    vectorisation: str = "sync"
    kwargs: dict[str, Any] = field(default_factory=dict)
    # The normalised score is 100·(value - low)/(high - low) of the return or of the success.
    score_metric: str = "return"
    score_range: list[float] | None = None


@dataclass
class DatasetConfig:
    """Offline data.

    ``kind`` is one of ``none``, ``d4rl``, ``minari``, ``waypoint``. ``path`` is a file, a D4RL name
    or a Minari id. ``transitions`` takes the first N of a shuffle of whole episodes by ``seed``.
    """

    kind: str = MISSING
    path: str | None = None
    transitions: int | None = None
    seed: int = 0
    # d4rl: ``hdf5`` reads the file; ``d4rl`` asks the original package, if it can be imported.
    backend: str = "hdf5"
    # d4rl: clip actions that lie outside of [-1, 1] instead of refusing the file.
    clip_actions: bool = False
    # waypoint: transitions to collect, and the controller that collects them.
    collected: int = 3000
    noise: float = 0.5
    proportional_gain: float = 3.0
    derivative_gain: float = 0.5


@dataclass
class LearnerConfig:
    """A learning algorithm: ``kind`` is ``iql``, ``bc`` or ``custom``.

    What each key means stands in ``learners.iql.IQLSettings`` and ``learners.bc.BCSettings``.
    """

    kind: str = MISSING
    batch_size: int = 256
    hidden: list[int] = field(default_factory=lambda: [256, 256])
    learning_rate: float = 3e-4
    dropout: float = 0.0
    initialisation: str = "orthogonal"
    tanh_mean: bool = True
    log_std_range: list[float] = field(default_factory=lambda: [-5.0, 2.0])
    actor_schedule: str = "cosine"
    normalise_observations: bool = False
    # The dataset's actions are clipped to ± this when they are read.
    data_action_clip: float | None = None
    online_action_clip: float = 1.0
    compile: bool = False
    # iql
    discount: float = 0.99
    target_rate: float = 0.005
    expectile: float = 0.9
    temperature: float = 10.0
    largest_weight: float = 100.0
    reward_scale: float = 1.0
    reward_shift: float = -1.0
    value_first: bool = True
    critic_reduction: str = "sum"
    # custom: ``module:attribute`` or ``file.py:attribute``, and its keyword arguments.
    target: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass
class GuideConfig:
    """The guide-policy, with its own observation selection, normaliser and action range.

    ``kind`` is one of ``none``, ``offline`` (the learner, pre-trained on the dataset), ``run``,
    ``python``, ``torchscript``, ``onnx``, ``npz``, ``waypoint``.
    """

    kind: str = MISSING
    # run: a run directory or checkpoint; torchscript, onnx and npz: the file.
    path: str | None = None
    # run: one of its seeds for all seeds; null matches them one to one.
    seed: int | None = None
    # run: its ``exploration`` or its own ``guide``.
    which: str = "exploration"
    # offline and run: act by samples instead of by the mode.
    sample: bool = False
    # Names of parts of a dictionary observation, or column numbers; null is all of it.
    observation: list[Any] | None = None
    mean: list[float] | None = None
    std: list[float] | None = None
    # The range in which the guide itself answers; null is [-1, 1].
    action_low: list[float] | None = None
    action_high: list[float] | None = None
    # python: ``module:attribute`` or ``file.py:attribute``, and its keyword arguments.
    target: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    # waypoint and the ant of npz: of Gaussian noise on its actions.
    noise: float = 0.0
    # waypoint: the controller.
    proportional_gain: float = 3.0
    derivative_gain: float = 0.5


@dataclass
class CurriculumConfig:
    """How the number of guide steps shrinks.

    ``kind`` is one of ``jsrl``, ``random``, ``none``, ``constant``, ``custom``.
    """

    kind: str = MISSING
    # Environment steps of each seed between two evaluations that the curriculum decides on.
    interval: int = 1000
    # jsrl and random: H1, null to measure it over so many episodes of the guide, and the stages.
    initial_guide_steps: int | None = None
    initial_episodes: int = 100
    stages: int = 10
    # jsrl: see ``curricula.JumpStartCurriculum``. ``metric`` is ``success`` or ``return``,
    # ``decide_on`` is ``combined`` or ``exploration``.
    window: int = 3
    tolerance: float = 0.05
    minimum: float | None = None
    metric: str = "success"
    decide_on: str = "combined"
    # constant
    guide_steps: int = 0
    # custom: ``module:attribute`` or ``file.py:attribute``, and its keyword arguments.
    target: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass
class NetworkActivationConfig:
    """The activation of one network's hidden layers, where it is not that of all.

    Null takes what all have. With a ``name``, the parameters of all do not apply.
    """

    name: str | None = None
    layer_norm: bool | None = None
    beta: float | None = None
    negative_slope: float | None = None
    positive_slope: float | None = None
    alpha: float | None = None
    offset: float | None = None


@dataclass
class ActivationConfig:
    """Activation of every hidden layer, and whether the layer is normalised before it.

    The parameters are those of ``jsrl.activations``; null is their default. ``actor``, ``critic``
    and ``value`` may differ from the rest.
    """

    name: str = "relu"
    layer_norm: bool = False
    beta: float | None = None
    negative_slope: float | None = None
    positive_slope: float | None = None
    alpha: float | None = None
    offset: float | None = None
    actor: NetworkActivationConfig = field(default_factory=NetworkActivationConfig)
    critic: NetworkActivationConfig = field(default_factory=NetworkActivationConfig)
    value: NetworkActivationConfig = field(default_factory=NetworkActivationConfig)


@dataclass
class LoggerConfig:
    """``interval``: updates (offline) or steps (online) between two records of the losses."""

    tensorboard: bool = True
    progress: bool = True
    interval: int = 500


@dataclass
class OfflineConfig:
    """Pre-training."""

    updates: int = 20_000


@dataclass
class OnlineConfig:
    """Online training. ``steps`` are those of each seed, over all its environments."""

    steps: int = 100_000
    updates_per_step: float = 1.0
    # A share in [0, 1], or ``merged``: uniform over the union of both buffers.
    offline_fraction: Any = 0.25
    learning_starts: int = 1000
    buffer_size: int = 100_000
    critic_warmup_steps: int = 0


@dataclass
class EvaluationConfig:
    """Evaluation in environments of its own, ``num_envs`` for each seed at a time."""

    interval: int = 5000
    episodes: int = 20
    final_episodes: int = 100
    num_envs: int = 10


@dataclass
class CheckpointConfig:
    """``interval``: updates (offline) or steps (online); ``keep`` the last so many."""

    interval: int = 5000
    keep: int = 2


@dataclass
class TrainConfig:
    """``jsrl train``."""

    experiment: str | None = None
    run_dir: str = MISSING
    seeds: list[int] = field(default_factory=lambda: [0])
    device: str = "auto"
    threads: int = 1
    # What differs between the seeds of a run; see ``nondeterminism.LEVELS``.
    nondeterminism: str = "all"
    start: str = "cold"
    env: EnvConfig = MISSING
    dataset: DatasetConfig = MISSING
    learner: LearnerConfig = MISSING
    guide: GuideConfig = MISSING
    curriculum: CurriculumConfig = MISSING
    activation: ActivationConfig = MISSING
    logger: LoggerConfig = MISSING
    # With a default, so that runs of before it was there can still be read.
    monitor: MonitorConfig = field(default_factory=MonitorConfig)
    offline: OfflineConfig = field(default_factory=OfflineConfig)
    online: OnlineConfig = field(default_factory=OnlineConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)


@dataclass
class EvaluateConfig:
    """``jsrl evaluate run=DIR``."""

    run: str = MISSING
    episodes: int = 100
    num_envs: int = 10
    # Which evaluation's start states; another number gives other ones.
    key: int = 0
    output: str | None = None


@dataclass
class ExportConfig:
    """``jsrl export run=DIR``."""

    run: str = MISSING
    output: str | None = None


@dataclass
class ReportConfig:
    """``jsrl report DIR…``."""

    runs: list[str] = MISSING
    output: str = "report"


@dataclass
class BenchmarkConfig:
    """``jsrl benchmark``. ``behaviour``: npz file of D4RL's ant, for the speed of collecting."""

    seconds: float = 5.0
    compile: bool = True
    memory_steps: int = 20_000
    behaviour: str | None = None
    output: str | None = None


def register() -> None:
    """Make the schema known to Hydra, under the names that the files in ``configs`` start from."""
    store = ConfigStore.instance()
    nodes: dict[str, dict[str, Any]] = {
        "": {
            "train_schema": TrainConfig,
            "evaluate_schema": EvaluateConfig,
            "export_schema": ExportConfig,
            "report_schema": ReportConfig,
            "benchmark_schema": BenchmarkConfig,
            "grid_schema": GridJobConfig,
            "monitor_schema": MonitorJobConfig,
            "detection_schema": DetectionJobConfig,
        },
        "env": {"schema": EnvConfig},
        "dataset": {"schema": DatasetConfig},
        "learner": {"schema": LearnerConfig},
        "guide": {"schema": GuideConfig},
        "curriculum": {"schema": CurriculumConfig},
        "activation": {"schema": ActivationConfig},
        "logger": {"schema": LoggerConfig},
        "monitor": {"schema": MonitorConfig},
        "grid": {"schema": GridConfig},
    }
    for group, schemas in nodes.items():
        for name, node in schemas.items():
            store.store(group=group or None, name=name, node=_schema(node), provider="jsrl")


def _schema(kind: type) -> DictConfig:
    """The schema of a dataclass. What is a plain dictionary in it takes any key without a ``+``."""
    schema: DictConfig = OmegaConf.structured(kind)
    for key in schema:
        node = schema._get_node(key)
        if isinstance(node, DictConfig) and node._metadata.object_type is dict:
            OmegaConf.set_struct(node, False)
    return schema
