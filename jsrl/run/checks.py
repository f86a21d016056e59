"""What can be told to be wrong with a configuration before anything is made."""

from typing import Any

from jsrl.core.errors import UserError
from jsrl.core.nondeterminism import LEVELS
from jsrl.core.ranges import all_finite, at_least, one_of
from jsrl.core.streams import checked_seed
from jsrl.guides import guides
from jsrl.guides.network import RunOptions
from jsrl.jumpstart.curricula import DecidingOptions
from jsrl.jumpstart.curricula.base import MeasuredOptions
from jsrl.learners import learners
from jsrl.monitor.config import MonitorConfig
from jsrl.networks.activations import make_activation
from jsrl.run.arbiter_checks import check_arbiter
from jsrl.run.build import NETWORKS, network_layers, watch_settings
from jsrl.run.summary import MEASURES
from jsrl.settings.schema import ActivationConfig, TrainConfig

SUGGESTED_STEPS = 50
"""Of a person as the guide, where none are given."""


def check(config: TrainConfig) -> None:
    """Raise UserError for the first value that is out of its range, or does not fit another."""
    parts = (config.dataset, config.learner, config.guide, config.curriculum, config.arbiter)
    for options in parts:
        options.check()
    one_of("nondeterminism", config.nondeterminism, LEVELS)
    one_of("start", config.start, ("cold", "warm", "naive"))
    if config.objective is not None:
        one_of("objective", config.objective, MEASURES)
    one_of("device", config.device.split(":")[0], ("auto", "cpu", "cuda"))
    one_of("env.vectorisation", config.env.vectorisation, ("sync", "async"))
    one_of("env.score_metric", config.env.score_metric, ("return", "success"))
    config.logger.check()
    _check_activations(config.activation)
    check_monitor(config.monitor)
    _check_seeds(config.seeds)
    _check_numbers(config)
    _check_ranges(config)
    _check_replay(config)
    _check_guide(config)
    _check_person(config)
    check_arbiter(config)
    _check_learner(config)
    _check_data(config)


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


def _check_activations(config: ActivationConfig) -> None:
    """Make each network's activation, whose name and parameters may be wrong."""
    for network in NETWORKS:
        own = getattr(config, network)
        make_activation(
            network_layers(config, network).activation,
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


def _check_seeds(seeds: list[int]) -> None:
    if not seeds:
        raise UserError("seeds=[] is empty; name at least one, for example seeds=[0]")
    if len(set(seeds)) < len(seeds):
        raise UserError(f"seeds={seeds} names a seed twice; each can run once")
    if min(seeds) < 0:
        raise UserError(f"seeds={seeds} has a negative seed; seeds are integers from 0 on")
    checked_seed(max(seeds), "seeds")


def _check_numbers(config: TrainConfig) -> None:
    smallest_values = {
        0: (
            "offline.updates",
            "online.steps",
            "online.updates_per_step",
            "online.learning_starts",
            "online.critic_warmup_steps",
        ),
        1: (
            "threads",
            "env.num_envs",
            "online.buffer_size",
            "evaluation.interval",
            "evaluation.episodes",
            "evaluation.final_episodes",
            "evaluation.num_envs",
            "checkpoint.interval",
            "checkpoint.keep",
        ),
    }
    for smallest, keys in smallest_values.items():
        for key in keys:
            group, _, name = key.rpartition(".")
            at_least(key, getattr(getattr(config, group) if group else config, name), smallest)
    all_finite("online", config.online)


def _check_ranges(config: TrainConfig) -> None:
    limit = config.env.max_episode_steps
    if limit is not None and limit < 1:
        raise UserError(f"env.max_episode_steps={limit} must be at least 1, or null")
    score = config.env.score_range
    if score is not None and (len(score) != 2 or score[0] == score[1]):
        raise UserError(f"env.score_range={score} must be [random, expert], two different numbers")
    offline_fraction(config.online.offline_fraction)


def _check_replay(config: TrainConfig) -> None:
    """How collected transitions are relabelled."""
    if config.replay.relabel not in (None, "her"):
        raise UserError(
            f"replay.relabel={config.replay.relabel!r} is unknown; choose her, or leave it out"
        )
    at_least("replay.goals", config.replay.goals, 0)
    all_finite("replay", config.replay)


def _check_guide(config: TrainConfig) -> None:
    """What needs a guide, and what a guide needs."""
    guide, curriculum, online = config.guide.kind, config.curriculum.kind, config.online
    if guide == "none" and curriculum != "none":
        raise UserError(
            f"curriculum={curriculum} needs a guide, but guide=none; choose a guide, "
            "or curriculum=none"
        )
    decides = isinstance(config.curriculum, DecidingOptions)
    if decides and config.curriculum.metric == "success" and config.env.success_key is None:
        raise UserError(
            "curriculum.metric=success needs to know of success, but env.success_key is null; name "
            "the entry of info that says so, or use curriculum.metric=return"
        )
    if config.curriculum.learns_from_success and config.env.success_key is None:
        raise UserError(
            f"curriculum={curriculum} goes by the success of training episodes, but "
            "env.success_key is null; name the entry of info that says so, or use another "
            "curriculum such as random"
        )
    if config.start != "cold" and not config.guide.has_networks:
        having = [name for name in guides.names() if guides[name].options.has_networks]
        raise UserError(
            f"start={config.start} copies networks of the guide, but guide={guide} has none to "
            f"copy; use start=cold, or guide={' or guide='.join(having)}"
        )
    each = any(isinstance(p, RunOptions) and p.seed is None for p in config.guide.parts())
    if each and config.nondeterminism != "all":
        raise UserError(
            f"nondeterminism={config.nondeterminism} holds equal what the seeds' guides do, but "
            "guide=run takes another guide for each seed; name one by guide.seed"
        )
    if online.critic_warmup_steps > 0 and guide == "none":
        raise UserError(
            f"online.critic_warmup_steps={online.critic_warmup_steps} are steps of the guide, but "
            "guide=none; choose a guide, or 0"
        )


def _check_person(config: TrainConfig) -> None:
    """A person acts in one environment at a time, and plays no evaluations unasked."""
    guide, curriculum = config.guide, config.curriculum
    if not guide.asks_person():
        return
    if len(config.seeds) != 1 or config.env.num_envs != 1:
        raise UserError(
            f"guide={guide.kind}: a person acts in one environment at a time, but there are "
            f"{len(config.seeds)} seeds and env.num_envs={config.env.num_envs}; use one seed and "
            "env.num_envs=1"
        )
    if guide.is_measured():
        if config.evaluation.num_envs != 1:
            raise UserError(
                f"evaluation.num_envs={config.evaluation.num_envs}: with measured=true a person "
                "plays the evaluations, one environment at a time; use evaluation.num_envs=1"
            )
        return
    if isinstance(curriculum, DecidingOptions) and curriculum.decide_on == "combined":
        raise UserError(
            f"curriculum.decide_on=combined would ask the person for {config.evaluation.episodes} "
            f"episodes every {curriculum.interval} steps; use curriculum.decide_on=exploration, "
            "another curriculum such as constant or random, or measured=true of guide=human with "
            "fewer evaluation.episodes"
        )
    if isinstance(curriculum, MeasuredOptions) and curriculum.given_guide_steps is None:
        episodes = max(curriculum.initial_episodes, config.evaluation.final_episodes)
        raise UserError(
            f"curriculum.initial_guide_steps=null would be measured in {episodes} episodes that "
            "the person plays; give the number of guide steps, "
            f"curriculum.initial_guide_steps={SUGGESTED_STEPS} for example"
        )


def _check_learner(config: TrainConfig) -> None:
    """What the learner can be given to learn from, and in what portions."""
    if not config.learner.learns_offline:
        _check_nothing_of_others(config)
    config.learner.check_run(config.env.num_envs, config.online.steps)


def _check_nothing_of_others(config: TrainConfig) -> None:
    """That a learner from its own newest steps is given nothing else to learn from."""
    online, replay = config.online, config.replay
    share, warmup = online.offline_fraction, online.critic_warmup_steps
    given = [
        (config.dataset.kind != "none", f"dataset={config.dataset.kind}", "set dataset=none"),
        (config.guide.pretrained, f"guide={config.guide.kind}", "choose another guide"),
        (offline_fraction(share) != 0, f"online.offline_fraction={share}", "set it to 0"),
        (warmup > 0, f"online.critic_warmup_steps={warmup}", "set it to 0"),
        (replay.relabel is not None, f"replay.relabel={replay.relabel}", "leave it out"),
        (replay.directory is not None, f"replay.directory={replay.directory}", "leave it out"),
    ]
    others = [name for name in learners.names() if learners[name].options.learns_offline]
    for is_given, key, instead in given:
        if is_given:
            raise UserError(
                f"{key} is of no use to learner={config.learner.kind}, which learns from the "
                f"newest steps of its own policy alone; {instead}, or choose "
                f"learner={' or learner='.join(others)}"
            )


def _check_data(config: TrainConfig) -> None:
    """What needs offline data, and what can only be learnt from them."""
    online, without = config.online, config.dataset.kind == "none"
    if config.learner.needs_dataset:
        _check_needed_data(config)
    if without and config.guide.pretrained and config.offline.updates > 0:
        raise UserError(
            f"guide={config.guide.kind} is pre-trained on a dataset, but dataset=none; choose a "
            "dataset, or another guide"
        )
    if without and offline_fraction(online.offline_fraction) != 0 and online.steps > 0:
        raise UserError(
            f"online.offline_fraction={online.offline_fraction} needs offline data, but "
            "dataset=none; choose a dataset, or online.offline_fraction=0"
        )
    if not config.learner.learns_online and online.steps > 0:
        raise UserError(
            f"learner={config.learner.kind} learns from offline data alone, but "
            f"online.steps={online.steps}; set online.steps=0, or choose a learner that learns "
            "online"
        )


def _check_needed_data(config: TrainConfig) -> None:
    """That a learner which needs offline data is given some."""
    online, own = config.online, config.learner
    named, others = f"learner={own.kind}", []
    for name in learners.names():
        other = learners[name].options
        alike = set(other.acts_by) & set(own.acts_by) and name not in learners.with_option("target")
        learns = other.learns_online and other.learns_offline
        if learns and not other.needs_dataset and alike:
            others.append(name)
    if config.dataset.kind == "none":
        raise UserError(
            f"{named} needs offline data, but dataset=none; choose a dataset, or a learner that "
            f"does without: {', '.join(others)}"
        )
    collects, share = online.steps > 0, offline_fraction(online.offline_fraction)
    pretrained = not config.guide.pretrained or config.offline.updates > 0
    if collects and share == 0 and not (config.start == "warm" and pretrained):
        raise UserError(
            f"{named} needs offline data, but with start={config.start}, offline.updates="
            f"{config.offline.updates} and online.offline_fraction={online.offline_fraction} its "
            "critics never see any; set online.offline_fraction=0.5, or choose a learner that does "
            f"without: {', '.join(others)}"
        )
