"""Which options a kind uses: a key that is typed for a kind that does not use it is refused.

Keys of an experiment's file that another choice leaves unused are no mistake, and not looked at.
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from jsrl.core.errors import UserError
from jsrl.core.registry import option_names
from jsrl.datasets import datasets
from jsrl.guides import guides
from jsrl.learners import LearnerOptions, learners
from jsrl.settings.kinds import REGISTRIES, split_key
from jsrl.settings.schema import ActivationConfig

ALL = ("*",)
"""Every key of the group."""

READERS = datasets.with_option("path")
"""Those that read what is there already."""

OF_ALL_NETWORKS = tuple(
    name for name in option_names(ActivationConfig) if name not in LearnerOptions.networks
)
"""What an activation has, beside those of single networks."""

ACTIVATIONS = {
    name: (*OF_ALL_NETWORKS, *networks) if networks else ()
    for name in learners.names()
    for networks in [learners[name].options.networks]
}

ONLINE = {
    name: ALL if options.learns_offline else ("steps",)
    for name in learners.names()
    for options in [learners[name].options]
    if options.learns_online
}
"""Learners from rollouts have no replay, and choose themselves when they update."""

Table = Mapping[Any, tuple[str, ...]]
GROUPS: Mapping[str, tuple[str, Table]] = {
    **{
        registry.group: (
            f"{registry.group}.kind",
            {name: option_names(registry[name].options) for name in registry.names()},
        )
        for registry in REGISTRIES
    },
    "activation": ("learner.kind", ACTIVATIONS),
    "offline": (
        "guide.kind",
        {name: ALL if guides[name].options.pretrained else () for name in guides.names()},
    ),
    "online": ("learner.kind", ONLINE),
    "replay": (
        "replay.relabel",
        {"her": ALL, None: ("directory", "relabel")},
    ),
    "monitor": ("monitor.enabled", {True: ALL, False: ("enabled",)}),
    "fault": ("fault.kind", {None: ("kind",)}),
    "supervised": ("supervised.task", {None: ("task",)}),
}
"""For each group the key that decides, and what is used for each of its values."""

NOT_SUPERVISED = (
    *("env", "dataset", "learner", "guide", "curriculum", "offline", "online", "evaluation"),
    *("arbiter", "replay"),
    *("checkpoint", "monitor", "measure", "start", "objective", "device"),
)
"""What a supervised task has no use for."""

OF_COMMANDS: Mapping[str, Mapping[str, str]] = {
    "config": {"monitor.every": "jsrl monitor"},
    "reproducibility": {
        "monitor.every": "jsrl monitor",
        "seeds": "jsrl train; here replicas=N are trained",
    },
    "monitor": {
        f"monitor.{name}": "jsrl train" for name in ("enabled", "share", "chunk_rows", "chunks")
    },
}
"""Keys that a command's schema has for another command's sake, and which it is."""

WITHOUT_EFFECT: Mapping[str, Any] = {
    "offline.updates": 0,
    "online.offline_fraction": 0,
    "online.critic_warmup_steps": 0,
    **{
        f"{registry.group}.{option}": value
        for registry in REGISTRIES
        for name in registry.names()
        for option, value in registry[name].options.neutral
    },
}
"""Values that say what is done without them: they are obeyed. So is null."""

ADVICE: Mapping[tuple[str, Any], str] = {
    **{
        (registry.group, name): registry[name].options.advice
        for registry in REGISTRIES
        for name in registry.names()
    },
    **{("activation", name): learners[name].options.advice for name in learners.names()},
    ("replay", None): "set replay.relabel=her to use it",
    ("monitor", False): "add monitor=on to use it",
    ("fault", None): "set fault.kind to what is to go wrong",
    ("supervised", None): "set supervised.task to the task",
}
"""What to do instead, by group and by the value of the key that decides."""


def refuse_unused(config: DictConfig, overrides: Iterable[str], command: str = "config") -> None:
    """See that what was typed is used by the kinds that were chosen.

    Args:
        config: composed, of any command.
        overrides: Hydra's, of the command line; choices of a group's option are none of a key.
        command: name of the primary configuration.

    Raises:
        UserError: naming the first key that is not, who would use it, and what to do.
    """
    for key, value in typed_keys(overrides):
        other = OF_COMMANDS.get(command, {}).get(key)
        if other is not None:
            raise UserError(f"{key}={value} is not used here: it is for {other}; leave it out")
        group, name = split_key(key)
        _refuse_across(config, key, value)
        if group in GROUPS and name and value is not None:
            _refuse(config, group, name, value, command)


def typed_keys(overrides: Iterable[str]) -> list[tuple[str, Any]]:
    """Keys with their values: those of a dictionary one by one."""
    found: list[tuple[str, Any]] = []
    parser = OverridesParser.create()
    for override in overrides:
        try:
            parsed = parser.parse_override(override)
        except HydraException:
            continue  # Hydra has said so, or will
        if not parsed.is_delete():
            value = parsed.value() if not parsed.is_sweep_override() else str(parsed.value())
            found += _leaves(parsed.key_or_group, value)
    return found


def _refuse_across(config: DictConfig, key: str, value: Any) -> None:
    """What another part of the configuration makes useless."""
    task = OmegaConf.select(config, "supervised.task", default=None)
    if task is not None and key.partition(".")[0] in NOT_SUPERVISED:
        raise UserError(
            f"{key}={value} is not used with supervised.task={task}, which has supervised.* of its "
            f"own: leave {key} out"
        )
    data = OmegaConf.select(config, "dataset.kind", default=None)
    learner = OmegaConf.select(config, "learner.kind", default=None)
    options = learners[learner].options if learner in learners.names() else LearnerOptions
    group, _, name = key.partition(".")
    about_data = group == "learner" and name in options.about_data
    if about_data and data == "none" and value not in (None, False):
        raise UserError(
            f"{key}={value} is about offline data, but dataset=none: leave {key} out, or choose a "
            "dataset"
        )
    whole = OmegaConf.select(config, "dataset.transitions", default=None) is None
    if data in READERS and key == "dataset.seed" and whole:
        raise UserError(
            f"{key}={value} chooses which episodes are taken, but dataset.transitions is null, so "
            f"that all of them are: give dataset.transitions=N, or leave {key} out"
        )
    if key == "activation" and not options.networks:
        raise UserError(f"{key}={value} is not used with learner={learner}; {options.advice}")


def _refuse(config: DictConfig, group: str, name: str, value: Any, command: str) -> None:
    decider, table = GROUPS[group]
    if command == "monitor" and group == "monitor":
        return
    kind = OmegaConf.select(config, decider, default=None)
    first, key = name.partition(".")[0], f"{group}.{name}"
    own = table.get(kind)
    # A kind that does not exist is told elsewhere, and so is a key that does not.
    if own is None or own == ALL or first in own or _without_effect(key, value):
        return
    others = [str(other) for other, names in table.items() if names == ALL or first in names]
    advice = ADVICE.get((group, kind), "")
    if kind is None and advice:
        raise UserError(f"{key}={value} is not used without {decider}; {advice}")
    if not others:
        return
    who = decider.removesuffix(".kind")
    chosen = f"{who}={kind}" if who != "monitor.enabled" else "monitor=off"
    if who == "monitor.enabled":
        who, others = "monitor", ["on"]
    near = difflib.get_close_matches(first, own, n=1, cutoff=0.7)
    if not advice and near:
        advice = f"the nearest that it uses is {group}.{near[0]}"
    elif not advice and (usable := [name for name in own if name != "kind"]):
        advice = f"of {group} it uses {', '.join(usable)}"
    raise UserError(
        f"{key}={value} is not used with {chosen}, but with {who}={' or '.join(others)}"
        f"{f'; {advice}' if advice else ''}: leave {key} out, or choose what uses it"
    )


def _without_effect(key: str, value: Any) -> bool:
    return key in WITHOUT_EFFECT and bool(value == WITHOUT_EFFECT[key])


def _leaves(key: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping) and not key.endswith((".arguments", ".kwargs")):
        return [leaf for name in value for leaf in _leaves(f"{key}.{name}", value[name])]
    return [(key, value)]
