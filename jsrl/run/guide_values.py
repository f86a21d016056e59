"""The guide's own values, for rules of who acts that ask for them: log π, entropy and V.

They come from the learner that made the guide: that of this run with ``guide=offline``, or one that
is made again from the checkpoint with ``guide=run``. None of them learns any more.
"""

from pathlib import Path
from typing import Any

import torch

from jsrl.core.arbitration import GUIDE_V, LOG_PROB, V, observes_share
from jsrl.core.checkpoint import load_checkpoint, newest_checkpoint
from jsrl.core.errors import UserError
from jsrl.core.protocols import DensityPolicy, Learner, StartsFromState
from jsrl.core.specs import EnvSpec, ObservationSpec, described_actions
from jsrl.core.streams import Streams
from jsrl.envs.make import describe_env
from jsrl.guides.network import RunOptions
from jsrl.jumpstart.arbiters import build_arbiter
from jsrl.rollout.critics import LearnerCritics, offered
from jsrl.rollout.guide_values import NetworkGuideValues
from jsrl.run.build import build_learner, env_settings
from jsrl.run.saved import run_configuration, saved_environment
from jsrl.settings.schema import TrainConfig

ADVICE = (
    "use a guide of learner=iql, which clones the data with learner.temperature=0 and has V, or "
    "another arbiter"
)


def guide_values(
    config: TrainConfig,
    needs: frozenset[str],
    guide_learner: Learner | None,
    own: Learner,
    spec: EnvSpec,
    device: torch.device,
) -> NetworkGuideValues | None:
    """What the guide of a run says of itself; None where the rule does not ask.

    Args:
        config: of the run, whose guide has networks if the rule asks.
        needs: of the rule.
        guide_learner: the learner that is pre-trained to be the guide, if there is one.
        own: the learner of the explorer, with whose values the guide's are compared.
        spec: of the environment.
        device: where policies are.

    Raises:
        UserError: if the guide's policy has no density, or its learner no V of the same rewards.
    """
    if not needs & {LOG_PROB, GUIDE_V}:
        return None
    learner = guide_learner
    if isinstance(config.guide, RunOptions):
        learner = _learner_of_run(config, config.guide, own, device)
    assert learner is not None, "a guide without networks has been refused"
    policy, named = learner.policy(), f"arbiter={config.arbiter.kind}"
    if not isinstance(policy, DensityPolicy):
        raise UserError(
            f"{named} needs to know how probable the guide's actions are, but guide="
            f"{config.guide.kind} is a {type(policy).__name__}, which has no density; {ADVICE}"
        )
    if V not in offered(type(learner)):
        raise UserError(
            f"{named} needs the values of states from the guide's own learner, but guide="
            f"{config.guide.kind} is of {type(learner).__name__}, which has none; {ADVICE}"
        )
    view = config.guide.view().bind(spec)
    return NetworkGuideValues(policy, LearnerCritics(learner), view)


def _learner_of_run(
    config: TrainConfig, guide: RunOptions, own: Learner, device: torch.device
) -> Learner:
    """The learner of the run that the guide comes from, with a row for each of our seeds."""
    arbiter, seeds = config.arbiter.kind, config.seeds
    file = newest_checkpoint(Path(str(guide.path)))
    folder = file.parents[1]
    if not (folder / "config.yaml").exists():
        raise UserError(
            f"arbiter={arbiter} asks the critics of the guide's run, but guide.path="
            f"{str(guide.path)!r} is a checkpoint without its run, whose config.yaml says of what "
            "kind they are; give the run directory"
        )
    theirs, state = run_configuration(folder), load_checkpoint(file)
    stored = state.get("guide_learner" if guide.which == "guide" else "learner")
    if stored is None:
        raise UserError(
            f"arbiter={arbiter} asks the critics of the guide, but guide.which=guide of guide.path="
            f"{str(guide.path)!r} was not trained there; give the run that has trained it"
        )
    if guide.which == "exploration" and observes_share(build_arbiter(theirs.arbiter)):
        raise UserError(
            f"arbiter={arbiter} asks the critics of the guide, but those of guide.path="
            f"{str(guide.path)!r} observe the explorer's share of arbiter={theirs.arbiter.kind}, "
            "which they are not told here; give a run with arbiter.observe_share=false"
        )
    learner = build_learner(
        *(theirs.learner, theirs.activation, Streams(seeds, ("guide values",))),
        *(_spec(folder, state, theirs), None, device),
    )
    if not isinstance(learner, StartsFromState):
        raise UserError(
            f"arbiter={arbiter} asks the critics of the guide, but {type(learner).__name__} of "
            f"guide.path={str(guide.path)!r} has no start_from(state, rows, only_actor); {ADVICE}"
        )
    _require_equal(
        arbiter,
        {
            "rewards as (factor, shift)": [
                options.reward_transform() or (1.0, 0.0)
                for options in (theirs.learner, config.learner)
            ],
            "learner.discount": [learner.needs.discount, own.needs.discount],
        },
    )
    wanted = [seed if guide.seed is None else guide.seed for seed in seeds]
    learner.start_from(stored, [state["seeds"].index(s) for s in wanted], only_actor=False)
    return learner


def _spec(folder: Path, state: dict[str, Any], theirs: TrainConfig) -> EnvSpec:
    """What the guide's run observed and did; checkpoints of earlier versions do not say all."""
    environment = saved_environment(folder, state)
    if "actions" not in environment:
        return describe_env(env_settings(theirs.env))
    return EnvSpec(
        str(environment["id"]),
        ObservationSpec.described(environment["observation"]),
        described_actions(environment["actions"]),
        theirs.env.max_episode_steps or 0,
    )


def _require_equal(arbiter: str, values: dict[str, list[Any]]) -> None:
    """Raise UserError for the first that the guide's values and the learner's are not alike in."""
    for name, (theirs, ours) in values.items():
        if theirs != ours:
            raise UserError(
                f"arbiter={arbiter} compares values of the guide with the learner's, but those in "
                f"guide.path are of {name}={theirs}, and here it is {ours}; make them equal, or "
                "use another arbiter such as ibrl"
            )
