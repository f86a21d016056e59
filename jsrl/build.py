"""From the configuration to the parts of a run: with ``train.py``, the composition root."""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jsrl.activations import Activation
from jsrl.config import (
    ActivationConfig,
    CurriculumConfig,
    DatasetConfig,
    EnvConfig,
    GuideConfig,
    LearnerConfig,
)
from jsrl.curricula import (
    ConstantCurriculum,
    JumpStartCurriculum,
    RandomCurriculum,
    stage_steps,
)
from jsrl.datasets import Dataset, load_d4rl, load_hdf5, load_minari, save_hdf5
from jsrl.datasets.collect import collect
from jsrl.envs.make import Environments, EnvSettings, make_env
from jsrl.errors import UserError
from jsrl.guides import (
    GuideView,
    NetworkGuide,
    npz_guide,
    onnx_guide,
    python_guide,
    torchscript_guide,
    waypoint_guide,
)
from jsrl.learners.bc import BC, BCSettings
from jsrl.learners.iql import IQL, IQLSettings
from jsrl.loading import check_arguments, load_attribute
from jsrl.monitor.config import MonitorConfig
from jsrl.monitor.detector import DetectorSettings
from jsrl.monitor.rates import RateSettings
from jsrl.monitor.training import TESTED, TrainingMonitorSettings
from jsrl.monitor.watch import WatchSettings
from jsrl.seeding import Streams
from jsrl.types import Consumes, Curriculum, EnvSpec, Guide, Learner

COLLECTING_ENVIRONMENTS = 8
NULL_SPLITS_IN_TRAINING = 10
"""Of the detection rates' null quantile, which is computed at every evaluation."""
NETWORKS = ("actor", "critic", "value")
"""Those that can have an activation of their own."""


def env_settings(env: EnvConfig) -> EnvSettings:
    """The environment's settings as plain values."""
    return EnvSettings(
        env.id, env.kwargs, env.max_episode_steps, env.success_key, env.vectorisation
    )


def build_dataset(
    config: DatasetConfig, env: EnvConfig, spec: EnvSpec, collected: Path
) -> Dataset | None:
    """The offline data, checked against the environment; None for ``dataset=none``.

    Args:
        config: which data.
        env: the environment that ``dataset=waypoint`` collects in.
        spec: of the environment.
        collected: where collected data are kept, and found again by a resumed run.
    """
    if config.kind == "none":
        return None
    if config.kind == "waypoint":
        if not collected.exists():
            collect_with_waypoints(
                collected, env, spec, config.collected, config.seed, _controller(config)
            )
        dataset = load_hdf5(collected)
    elif config.path is None:
        raise UserError(
            f"dataset.path is not set; dataset={config.kind} needs a file, a name or an id there"
        )
    elif config.kind == "minari":
        dataset = load_minari(config.path, spec.layout)
    elif config.path.endswith((".hdf5", ".h5")) or Path(config.path).exists():
        dataset = load_hdf5(config.path, clip_actions=config.clip_actions)
    else:
        dataset = load_d4rl(config.path, backend=config.backend)
    dataset.validate(spec)
    if config.transitions is not None:
        dataset = dataset.take_episodes(config.transitions, config.seed)
    return dataset


def collect_with_waypoints(
    path: Path,
    env: EnvConfig,
    spec: EnvSpec,
    transitions: int,
    seed: int,
    controller: Mapping[str, float],
    report: Callable[[int], None] = lambda done: None,
) -> None:
    """Write ``transitions`` transitions of the noisy waypoint controller to ``path``."""
    settings = env_settings(env)
    example = make_env(settings)
    guide = waypoint_guide(example, spec, 1, **controller)
    example.close()
    environments = Environments(settings, COLLECTING_ENVIRONMENTS)
    try:
        data = collect(environments, spec, guide, transitions, seed, report)
    finally:
        environments.close()
    attributes: dict[str, bool | int | float | str] = {"env_id": env.id, "seed": seed}
    save_hdf5(path, data, {}, attributes | dict(controller))


def build_learner(
    config: LearnerConfig,
    activation: ActivationConfig,
    streams: Streams,
    spec: EnvSpec,
    dataset: Dataset | None,
    device: torch.device,
) -> Learner:
    """A fresh learner. The streams decide its initial weights."""
    if config.kind == "custom":
        return _custom_learner(config, streams, spec, device)
    actor, critic, value = (network_activation(activation, name) for name in NETWORKS)
    shared: dict[str, Any] = {
        "hidden": tuple(config.hidden),
        "activation": actor[0],
        "layer_norm": actor[1],
        "batch_size": config.batch_size,
        "learning_rate": config.learning_rate,
        "actor_schedule": config.actor_schedule,
        "dropout": config.dropout,
        "initialisation": config.initialisation,
        "tanh_mean": config.tanh_mean,
        "log_std_range": tuple(config.log_std_range),
        "normalise_observations": config.normalise_observations,
        "online_action_clip": config.online_action_clip,
    }
    sizes = (streams, spec.observation_size, spec.action_size)
    statistics = _observation_statistics(dataset)
    if config.kind == "bc":
        return BC(*sizes, BCSettings(**shared), device, *statistics)
    settings = IQLSettings(
        **shared,
        discount=config.discount,
        target_rate=config.target_rate,
        expectile=config.expectile,
        temperature=config.temperature,
        largest_weight=config.largest_weight,
        reward_scale=config.reward_scale,
        reward_shift=config.reward_shift,
        value_first=config.value_first,
        critic_reduction=config.critic_reduction,
        critic=None if critic == actor else critic,
        value=None if value == actor else value,
        compile=config.compile,
    )
    return IQL(*sizes, settings, device, *statistics)


def network_activation(config: ActivationConfig, network: str) -> tuple[Activation, bool]:
    """What follows each hidden layer of one network, and whether the layer is normalised.

    Args:
        config: of all networks.
        network: ``actor``, ``critic`` or ``value``.
    """
    own = getattr(config, network)
    layer_norm = config.layer_norm if own.layer_norm is None else own.layer_norm
    names = [f.name for f in fields(own) if f.name not in ("name", "layer_norm")]
    given = {name: getattr(own, name) for name in names}
    if own.name is None:
        given = {n: getattr(config, n) if value is None else value for n, value in given.items()}
    parameters = {name: value for name, value in given.items() if value is not None}
    name = own.name or config.name
    return ({"name": name, **parameters} if parameters else name), layer_norm


def build_guide(
    config: GuideConfig, env: EnvConfig, spec: EnvSpec, seeds: list[int], device: torch.device
) -> Guide | None:
    """A guide that exists already; ``offline`` is made by the run itself, ``none`` is None."""
    view = guide_view(config)
    if config.kind == "run":
        return NetworkGuide.from_checkpoint(
            _required(config.path, "guide.path", "a run directory or checkpoint"),
            seeds,
            config.seed,
            view=view,
            spec=spec,
            which=config.which,
            sample=config.sample,
            device=device,
        )
    if config.kind == "python":
        if config.target is None:
            raise UserError("guide.target is not set; guide=python needs module:attribute there")
        return python_guide(config.target, config.arguments, view, spec, len(seeds))
    if config.kind == "torchscript":
        path = _required(config.path, "guide.path", "a TorchScript file")
        return torchscript_guide(path, view, spec, len(seeds))
    if config.kind == "onnx":
        path = _required(config.path, "guide.path", "an ONNX file")
        return onnx_guide(path, view, spec, len(seeds))
    if config.kind == "npz":
        path = _required(config.path, "guide.path", "an npz file")
        example = make_env(env_settings(env))
        try:
            return npz_guide(path, example, view, spec, len(seeds), config.noise)
        finally:
            example.close()
    if config.kind == "waypoint":
        example = make_env(env_settings(env))
        try:
            return waypoint_guide(example, spec, len(seeds), **_controller(config))
        finally:
            example.close()
    return None


def guide_view(config: GuideConfig) -> GuideView:
    """The guide's own observation selection, normaliser and action range."""
    return GuideView(
        observation=None if config.observation is None else tuple(config.observation),
        mean=config.mean,
        std=config.std,
        action_low=-1.0 if config.action_low is None else config.action_low,
        action_high=1.0 if config.action_high is None else config.action_high,
    )


def build_curriculum(
    config: CurriculumConfig, initial_guide_steps: int, guide_score: float
) -> Curriculum:
    """The curriculum of one seed.

    Args:
        config: which one.
        initial_guide_steps: H1.
        guide_score: what the guide alone reaches in ``curriculum.metric``.
    """
    if config.kind == "jsrl":
        return JumpStartCurriculum(
            steps=stage_steps(initial_guide_steps, config.stages),
            window=config.window,
            tolerance=config.tolerance,
            minimum=-np.inf if config.minimum is None else config.minimum,
            best=guide_score,
        )
    if config.kind == "random":
        return RandomCurriculum(stage_steps(initial_guide_steps, config.stages))
    if config.kind == "custom":
        target = config.target
        if target is None:
            raise UserError("curriculum.target is not set; name module:attribute there")
        attribute = load_attribute(target, "curriculum.target")
        given = {
            "initial_guide_steps": initial_guide_steps,
            "best": guide_score,
            **config.arguments,
        }
        check_arguments(attribute, given, target, "curriculum.arguments")
        curriculum: Curriculum = attribute(**given)
        return curriculum
    return ConstantCurriculum(config.guide_steps if config.kind == "constant" else 0)


def watch_settings(config: MonitorConfig, *, shared_by: int, rolling: bool) -> WatchSettings:
    """How a watch tests, as plain values; ``shared_by`` phases share the level."""
    return WatchSettings(
        level=config.level,
        horizon=config.horizon,
        shared_by=shared_by,
        window=config.window,
        stride=config.stride,
        reference=config.reference,
        rolling=rolling,
        detector=DetectorSettings(
            config.permutations, config.rows_per_episode, tuple(config.time_bins)
        ),
    )


def training_monitor_settings(config: MonitorConfig) -> TrainingMonitorSettings:
    """What a run's monitor records, and how it tests, as plain values."""
    return TrainingMonitorSettings(
        layers=config.layers,
        interval=config.interval,
        share=config.share,
        chunk_rows=config.chunk_rows,
        chunks=config.chunks,
        trusted=config.trusted,
        watch=watch_settings(config, shared_by=len(TESTED), rolling=True),
        rates=replace(rate_settings(config), null_splits=NULL_SPLITS_IN_TRAINING),
    )


def rate_settings(config: MonitorConfig) -> RateSettings:
    """Of detection rates, as plain values."""
    return RateSettings(config.rate_tests, config.rate_samples)


def _custom_learner(
    config: LearnerConfig, streams: Streams, spec: EnvSpec, device: torch.device
) -> Learner:
    if config.target is None:
        raise UserError("learner.target is not set; learner=custom needs module:attribute there")
    attribute = load_attribute(config.target, "learner.target")
    given = {
        "streams": streams,
        "observation_size": spec.observation_size,
        "action_size": spec.action_size,
        "batch_size": config.batch_size,
        "device": device,
        **config.arguments,
    }
    check_arguments(attribute, given, config.target, "learner.arguments")
    learner: Learner = attribute(**given)
    if learner.consumes is not Consumes.TRANSITIONS:
        raise UserError(
            f"learner.target={config.target!r} consumes {learner.consumes.value}; the runner feeds "
            "single transitions, among them the guide's, which are off-policy"
        )
    return learner


def _observation_statistics(
    dataset: Dataset | None,
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Mean and standard deviation of the dataset's observations, for learners that normalise."""
    if dataset is None:
        return None, None
    observations = dataset.data.observations.astype(np.float64)
    # The small constant keeps constant columns finite, as in CORL.
    spread = observations.std(0) + 1e-3
    return (
        torch.tensor(observations.mean(0), dtype=torch.float32),
        torch.tensor(spread, dtype=torch.float32),
    )


def _controller(config: DatasetConfig | GuideConfig) -> dict[str, float]:
    """The settings of the waypoint controller."""
    return {
        "noise": config.noise,
        "proportional_gain": config.proportional_gain,
        "derivative_gain": config.derivative_gain,
    }


def _required(path: str | None, key: str, what: str) -> Path:
    if path is None:
        raise UserError(f"{key} is not set; name {what} there")
    return Path(path)
