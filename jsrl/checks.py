"""What can be told to be wrong with a configuration before anything is made."""

import math
from collections.abc import Collection
from dataclasses import asdict
from typing import Any

from jsrl.activations import make_activation
from jsrl.build import NETWORKS, network_activation, watch_settings
from jsrl.config import ActivationConfig, TrainConfig
from jsrl.errors import UserError
from jsrl.monitor.config import MonitorConfig
from jsrl.nondeterminism import LEVELS

KINDS = {
    "dataset": ("none", "d4rl", "minari", "waypoint"),
    "learner": ("iql", "bc", "custom"),
    "guide": ("none", "offline", "run", "python", "torchscript", "onnx", "npz", "waypoint"),
    "curriculum": ("jsrl", "random", "none", "constant", "custom"),
}


def check(config: TrainConfig) -> None:
    """Raise UserError for the first value that is out of its range, or does not fit another."""
    for group, kinds in KINDS.items():
        _one_of(f"{group}.kind", getattr(config, group).kind, kinds)
    _one_of("nondeterminism", config.nondeterminism, LEVELS)
    _one_of("start", config.start, ("cold", "warm", "naive"))
    _one_of("device", config.device.split(":")[0], ("auto", "cpu", "cuda"))
    _one_of("dataset.backend", config.dataset.backend, ("hdf5", "d4rl"))
    _one_of("guide.which", config.guide.which, ("exploration", "guide"))
    _one_of("env.vectorisation", config.env.vectorisation, ("sync", "async"))
    _one_of("env.score_metric", config.env.score_metric, ("return", "success"))
    _one_of("curriculum.metric", config.curriculum.metric, ("success", "return"))
    _one_of("curriculum.decide_on", config.curriculum.decide_on, ("combined", "exploration"))
    _one_of("learner.critic_reduction", config.learner.critic_reduction, ("sum", "mean"))
    _one_of("learner.actor_schedule", config.learner.actor_schedule, ("cosine", "constant"))
    _one_of(
        "learner.initialisation",
        config.learner.initialisation,
        ("orthogonal", "pytorch", "variance_scaling"),
    )
    _check_activations(config.activation)
    check_monitor(config.monitor)
    _check_named(config)
    _check_seeds(config.seeds)
    _check_numbers(config)
    _check_shares(config)
    _check_combinations(config)


def offline_fraction(value: Any) -> float | None:
    """``online.offline_fraction`` as a share, or None for ``merged``.

    Raises:
        UserError: if it is neither.
    """
    if value == "merged":
        return None
    number = not isinstance(value, bool) and isinstance(value, int | float)
    if not number or not 0 <= value <= 1:
        raise UserError(
            f"online.offline_fraction={value} must be a number in [0, 1] or the word merged"
        )
    return float(value)


def _one_of(key: str, value: str, choices: Collection[str]) -> None:
    if value not in choices:
        raise UserError(f"{key}={value!r} is unknown; choose one of {', '.join(choices)}")


def _check_activations(config: ActivationConfig) -> None:
    """Make each network's activation, whose name and parameters may be wrong."""
    for network in NETWORKS:
        own = getattr(config, network)
        make_activation(
            network_activation(config, network)[0],
            f"activation.{network}" if own.name else "activation",
        )


def check_monitor(config: MonitorConfig) -> None:
    """Raise UserError for the first number of a monitor that is out of its range.

    Level, horizon, window and reference say so themselves where they are used.
    """
    at_least = {
        1: ("interval", "chunk_rows", "chunks", "permutations", "rate_tests"),
        2: ("trusted", "rows_per_episode", "rate_samples"),
    }
    for smallest, keys in at_least.items():
        for key in keys:
            value = getattr(config, key)
            if value < smallest:
                raise UserError(f"monitor.{key}={value} must be at least {smallest}")
    if not 0 < config.share <= 1:
        raise UserError(f"monitor.share={config.share} must lie in (0, 1]")
    bins = config.time_bins
    if bins != sorted(set(bins)) or any(edge < 1 for edge in bins):
        raise UserError(f"monitor.time_bins={bins} must be steps from 1 on, each above the last")
    watch_settings(config, shared_by=1, rolling=False)


def _check_named(config: TrainConfig) -> None:
    """See that what a kind needs is named, before anything takes time."""
    paths = {("dataset", "d4rl"): "a file or a D4RL name", ("dataset", "minari"): "a Minari id"}
    paths |= {("guide", "run"): "a run directory or checkpoint"}
    paths |= {("guide", "torchscript"): "a TorchScript file", ("guide", "onnx"): "an ONNX file"}
    paths |= {("guide", "npz"): "an npz file"}
    for (group, kind), what in paths.items():
        part = getattr(config, group)
        if part.kind == kind and not part.path:
            raise UserError(f"{group}.path is not set; {group}={kind} needs {what} there")
    targets = (("learner", "custom"), ("guide", "python"), ("curriculum", "custom"))
    for group, kind in targets:
        part = getattr(config, group)
        if part.kind == kind and not part.target:
            raise UserError(
                f"{group}.target is not set; {group}={kind} needs module:attribute or "
                "file.py:attribute there"
            )


def _check_seeds(seeds: list[int]) -> None:
    if not seeds:
        raise UserError("seeds=[] is empty; name at least one, for example seeds=[0]")
    if len(set(seeds)) < len(seeds):
        raise UserError(f"seeds={seeds} names a seed twice; each can run once")
    if min(seeds) < 0:
        raise UserError(f"seeds={seeds} has a negative seed; seeds are integers from 0 on")


def _check_numbers(config: TrainConfig) -> None:
    at_least = {
        0: (
            "offline.updates",
            "online.steps",
            "online.updates_per_step",
            "online.learning_starts",
            "online.critic_warmup_steps",
            "curriculum.guide_steps",
            "curriculum.tolerance",
            "dataset.seed",
            "dataset.noise",
            "guide.noise",
        ),
        1: (
            "threads",
            "env.num_envs",
            "dataset.collected",
            "learner.batch_size",
            "curriculum.interval",
            "curriculum.initial_episodes",
            "curriculum.stages",
            "curriculum.window",
            "logger.interval",
            "online.buffer_size",
            "evaluation.interval",
            "evaluation.episodes",
            "evaluation.final_episodes",
            "evaluation.num_envs",
            "checkpoint.interval",
            "checkpoint.keep",
        ),
    }
    for smallest, keys in at_least.items():
        for key in keys:
            group, _, name = key.rpartition(".")
            value = getattr(getattr(config, group) if group else config, name)
            if not value >= smallest:
                raise UserError(f"{key}={value} must be at least {smallest}")
    for group in ("dataset", "learner", "guide", "curriculum", "online"):
        for name, value in asdict(getattr(config, group)).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise UserError(f"{group}.{name}={value} must be a finite number")


def _check_shares(config: TrainConfig) -> None:
    learner = config.learner
    for key in ("data_action_clip", "online_action_clip"):
        clip = getattr(learner, key)
        if clip is not None and not 0 < clip <= 1:
            raise UserError(f"learner.{key}={clip} must lie in (0, 1], the range of actions")
    limit = config.env.max_episode_steps
    if limit is not None and limit < 1:
        raise UserError(f"env.max_episode_steps={limit} must be at least 1, or null")
    if not 0 < learner.expectile < 1:
        raise UserError(f"learner.expectile={learner.expectile} must lie between 0 and 1")
    if not 0 <= learner.dropout < 1:
        raise UserError(f"learner.dropout={learner.dropout} must lie in [0, 1)")
    if not 0 <= learner.discount <= 1:
        raise UserError(f"learner.discount={learner.discount} must lie in [0, 1]")
    if not 0 < learner.target_rate <= 1:
        raise UserError(f"learner.target_rate={learner.target_rate} must lie in (0, 1]")
    if not learner.learning_rate > 0:
        raise UserError(f"learner.learning_rate={learner.learning_rate} must be above 0")
    if any(width < 1 for width in learner.hidden):
        raise UserError(f"learner.hidden={learner.hidden} must be sizes of at least 1")
    if len(learner.log_std_range) != 2 or learner.log_std_range[0] > learner.log_std_range[1]:
        raise UserError(f"learner.log_std_range={learner.log_std_range} must be [low, high]")
    score = config.env.score_range
    if score is not None and (len(score) != 2 or score[0] == score[1]):
        raise UserError(f"env.score_range={score} must be [random, expert], two different numbers")
    offline_fraction(config.online.offline_fraction)


def _check_combinations(config: TrainConfig) -> None:
    guide, curriculum, online = config.guide.kind, config.curriculum.kind, config.online
    if guide == "none" and curriculum != "none":
        raise UserError(
            f"curriculum={curriculum} needs a guide, but guide=none; choose a guide, "
            "or curriculum=none"
        )
    decides = curriculum in ("jsrl", "custom")
    if decides and config.curriculum.metric == "success" and config.env.success_key is None:
        raise UserError(
            "curriculum.metric=success needs to know of success, but env.success_key is null; name "
            "the entry of info that says so, or use curriculum.metric=return"
        )
    if guide == "offline" and config.dataset.kind == "none" and config.offline.updates > 0:
        raise UserError(
            "guide=offline is pre-trained on a dataset, but dataset=none; choose a dataset, "
            "or another guide"
        )
    if config.start != "cold" and guide not in ("offline", "run"):
        raise UserError(
            f"start={config.start} copies networks of the guide, but guide={guide} has none to "
            "copy; use start=cold, guide=offline or guide=run"
        )
    if guide == "run" and config.guide.seed is None and config.nondeterminism != "all":
        raise UserError(
            f"nondeterminism={config.nondeterminism} holds equal what the seeds' guides do, but "
            "guide=run takes another guide for each seed; name one by guide.seed"
        )
    fraction = offline_fraction(online.offline_fraction)
    if config.dataset.kind == "none" and fraction != 0 and online.steps > 0:
        raise UserError(
            f"online.offline_fraction={online.offline_fraction} needs offline data, but "
            "dataset=none; choose a dataset, or online.offline_fraction=0"
        )
    if online.critic_warmup_steps > 0 and guide == "none":
        raise UserError(
            f"online.critic_warmup_steps={online.critic_warmup_steps} are steps of the guide, but "
            "guide=none; choose a guide, or 0"
        )
    if config.learner.kind == "bc" and online.steps > 0:
        raise UserError(
            f"learner=bc learns from offline data alone, but online.steps={online.steps}; set "
            "online.steps=0, or choose a learner that learns online"
        )
