"""What ``start=warm`` and ``start=naive`` copy from the run that the guide comes from."""

from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from jsrl.core.checkpoint import load_checkpoint, newest_checkpoint, stored_policy
from jsrl.core.errors import UserError
from jsrl.core.protocols import Policy, SavablePolicy
from jsrl.guides.network import RunOptions
from jsrl.networks.hidden_layers import HiddenLayers
from jsrl.run.build import network_layers
from jsrl.run.stored_config import complete
from jsrl.settings.schema import ActivationConfig, TrainConfig

MEANING = {
    "activation": "activation",
    "layer_norm": "activation.layer_norm",
    "tanh_mean": "learner.tanh_mean",
    "normalise_observations": "learner.normalise_observations",
}
"""Arguments of a policy without which the same weights are another policy, and their keys."""


def networks_of_guides_run(config: TrainConfig, own: Policy) -> tuple[dict[str, Any], list[int]]:
    """The learner's state in the run that the guide comes from, and the rows of our seeds.

    Args:
        config: of this run, with ``guide=run``.
        own: the policy that is to get the networks.

    Raises:
        UserError: if they would act in another way in this policy.
    """
    guide = config.guide
    assert isinstance(guide, RunOptions) and guide.path is not None
    state = load_checkpoint(newest_checkpoint(Path(guide.path)))
    if config.start == "warm":
        _require_same_activations(config, Path(guide.path))
    stored = state["policies"].get(guide.which)
    if stored is not None and isinstance(own, SavablePolicy):
        _require_same_meaning(config, stored["description"], own.describe())
    rows = [
        state["seeds"].index(seed if guide.seed is None else guide.seed) for seed in config.seeds
    ]
    wanted = state["guide_learner"] if guide.which == "guide" else state["learner"]
    return wanted, rows


def check_observed_share(config: TrainConfig, observes: bool) -> None:
    """Raise UserError if copied networks observe the explorer's share, and ours do not, or so.

    Args:
        config: of this run, with a guide that has networks unless ``start=cold``.
        observes: whether our explorer observes its share.
    """
    guide, start = config.guide, config.start
    if start == "cold":
        return
    named, theirs = f"guide={guide.kind}", False
    if isinstance(guide, RunOptions) and guide.path is not None:
        named = f"{guide.which} of guide.path={guide.path!r}"
        state = load_checkpoint(newest_checkpoint(Path(guide.path)))
        stored = stored_policy(state, guide.which, named)
        theirs = bool(stored["description"]["arguments"].get("appended"))
    if observes and not theirs:
        raise UserError(
            f"start={start} copies networks that do not observe the explorer's share ({named}) to "
            f"those of arbiter={config.arbiter.kind}, which do; use arbiter.observe_share=false, "
            "or start=cold"
        )
    if theirs and not observes:
        raise UserError(
            f"start={start} copies networks that observe the explorer's share ({named}), which "
            f"arbiter={config.arbiter.kind} does not tell here; use start=cold"
        )


def _require_same_activations(config: TrainConfig, run: Path) -> None:
    """Raise UserError for the first network of values that would compute something else here."""
    path = run / "config.yaml"
    stored = complete({"activation": yaml.safe_load(path.read_text()).get("activation", {})})
    theirs = OmegaConf.to_object(stored.activation)
    assert isinstance(theirs, ActivationConfig)
    for network in set(config.learner.networks) - {"actor"}:
        of_guide, own = network_layers(theirs, network), network_layers(config.activation, network)
        if of_guide != own:
            raise UserError(
                f"start=warm copies the guide's {network}, which has {_named(of_guide)} in its "
                f"hidden layers, to one that has {_named(own)}, where its values would be others; "
                f"set activation and activation.{network} as they are in {str(path)!r}, or use "
                "start=cold or start=naive"
            )


def _named(layers: HiddenLayers) -> str:
    return f"{layers.activation} {'behind' if layers.layer_norm else 'without'} LayerNorm"


def _require_same_meaning(config: TrainConfig, other: dict[str, Any], own: dict[str, Any]) -> None:
    """Raise UserError for the first argument that gives the copied weights another meaning."""
    for name, key in MEANING.items():
        theirs, ours = other["arguments"].get(name), own["arguments"].get(name)
        if None not in (theirs, ours) and theirs != ours:
            raise UserError(
                f"start={config.start} copies the guide's networks, in which {name} is {theirs}, "
                f"to a policy in which it is {ours}, where they would act in another way; set "
                f"{key} to the guide's, or use start=cold"
            )
