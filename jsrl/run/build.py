"""From the configuration to the components of a run: with ``train.py``, the composition root."""

import warnings
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jsrl.core.protocols import Guide, Learner
from jsrl.core.specs import EnvSpec
from jsrl.core.streams import Streams
from jsrl.datasets import Dataset, DatasetInputs, DatasetOptions, DatasetWarning, datasets
from jsrl.datasets.load import load_named
from jsrl.datasets.options import SubsetOptions
from jsrl.datasets.reading import Reading
from jsrl.envs.make import EnvSettings, with_frames
from jsrl.guides import GuideInputs, GuideOptions, guides
from jsrl.learners import LearnerInputs, LearnerOptions, learners
from jsrl.monitor.config import MonitorConfig
from jsrl.monitor.detectors.ensemble import make_detectors
from jsrl.monitor.detectors.findings import DetectorSettings
from jsrl.monitor.detectors.kinds import DetectorOptions
from jsrl.monitor.detectors.rates import RateSettings
from jsrl.monitor.watch.settings import WatchSettings
from jsrl.monitor.watch.training_settings import TESTED_PHASES, TrainingMonitorSettings
from jsrl.networks.hidden_layers import HiddenLayers, NetworkLayers
from jsrl.settings.schema import ActivationConfig, EnvConfig

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
    options: DatasetOptions, env: EnvConfig, spec: EnvSpec, collected: Path
) -> Dataset | None:
    """The offline data, checked against the environment; None for ``dataset=none``.

    Args:
        options: which data.
        env: the environment in which data are collected.
        spec: of the environment.
        collected: where collected data are kept, and found again by a resumed run.
    """
    # What is doubtful is printed with the run's first lines.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DatasetWarning)
        inputs = DatasetInputs(spec, env_settings(env), collected)
        dataset: Dataset | None = datasets.build(options, inputs)
        if dataset is None:
            return None
        dataset.validate(spec)
    if isinstance(options, SubsetOptions) and options.transitions is not None:
        dataset = dataset.take_episodes(options.transitions, options.seed)
    return dataset


def build_learner(
    options: LearnerOptions,
    activation: ActivationConfig,
    streams: Streams,
    spec: EnvSpec,
    dataset: Dataset | None,
    device: torch.device,
) -> Learner:
    """A fresh learner. The streams decide its initial weights."""
    layers = NetworkLayers(*(network_layers(activation, name) for name in NETWORKS))
    inputs = LearnerInputs(
        *(streams, spec.observation, spec.actions, device, layers),
        *_observation_statistics(dataset, spec),
    )
    learner: Learner = learners.build(options, inputs)
    return learner


def network_layers(config: ActivationConfig, network: str) -> HiddenLayers:
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
    return HiddenLayers({"name": name, **parameters} if parameters else name, layer_norm)


def build_guide(
    options: GuideOptions, env: EnvConfig, spec: EnvSpec, seeds: list[int], device: torch.device
) -> Guide | None:
    """A guide that exists already; ``offline`` is made by the run itself, ``none`` is None."""
    inputs = GuideInputs(spec, seeds, device, env_settings(env), read_demonstrations)
    guide: Guide | None = guides.build(options, inputs)
    return guide


def read_demonstrations(path: str, spec: EnvSpec, key: str, reading: dict[str, Any]) -> Dataset:
    """What a guide replays, checked against the environment; see ``ReadDemonstrations``."""
    # What is doubtful is printed with the run's first lines.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DatasetWarning)
        dataset = load_named(path, Reading(spec=spec, **reading), key=key)
        dataset.validate(spec)
    return dataset


def guide_environment(options: GuideOptions, settings: EnvSettings) -> EnvSettings:
    """The environment that a guide acts in: with pictures, where a person has to see it."""
    return with_frames(settings, f"guide={options.kind}") if options.asks_person() else settings


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
            *(config.permutations, config.rows_per_episode),
            *(tuple(config.time_bins), tuple(config.margins)),
            detectors=_detectors(config),
            outputs=config.outputs,
            projection_seed=config.projection_seed,
        ),
    )


def _detectors(config: MonitorConfig) -> tuple[DetectorOptions, ...] | None:
    """The options of the detectors that are named, checked; None for the default ones."""
    if config.detectors is None:
        return None
    return tuple(detector.options for detector in make_detectors(config.detectors))


def training_monitor_settings(config: MonitorConfig) -> TrainingMonitorSettings:
    """What a run's monitor records, and how it tests, as plain values."""
    return TrainingMonitorSettings(
        layers=config.layers,
        interval=config.interval,
        share=config.share,
        chunk_rows=config.chunk_rows,
        chunks=config.chunks,
        trusted=config.trusted,
        watch=watch_settings(config, shared_by=len(TESTED_PHASES), rolling=True),
        rates=replace(rate_settings(config), null_splits=NULL_SPLITS_IN_TRAINING),
    )


def rate_settings(config: MonitorConfig) -> RateSettings:
    """Of detection rates, as plain values."""
    return RateSettings(config.rate_tests, config.rate_samples)


def _observation_statistics(
    dataset: Dataset | None, spec: EnvSpec
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Mean and standard deviation of the dataset's observations, for learners that normalise.

    A column that the dataset lacks, which is the explorer's share, stays as it is.
    """
    if dataset is None:
        return None, None
    observations = dataset.data.observations.astype(np.float64)
    # The small constant keeps constant columns finite, as in CORL.
    spread = observations.std(0) + 1e-3
    more = spec.observation.size - observations.shape[1]
    return (
        torch.tensor(np.append(observations.mean(0), np.zeros(more)), dtype=torch.float32),
        torch.tensor(np.append(spread, np.ones(more)), dtype=torch.float32),
    )
