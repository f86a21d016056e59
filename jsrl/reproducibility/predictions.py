"""What the replicas of a finished run say of the same states, and how they do."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped
from numpy.typing import NDArray
from torch import Tensor

from jsrl.core.checkpoint import checkpoint_paths, load_checkpoint
from jsrl.core.errors import UserError
from jsrl.core.observations import Observation, joined
from jsrl.core.observed_share import data_with_share
from jsrl.core.protocols import FreezesSeeds, Learner, Policy, PredictsValues
from jsrl.core.streams import Streams, seed_sequence
from jsrl.datasets.options import SubsetOptions
from jsrl.envs.make import Environments
from jsrl.reproducibility.config import MeasureConfig
from jsrl.rollout.evaluator import Evaluator
from jsrl.run.build import build_dataset
from jsrl.run.components import Components
from jsrl.settings.schema import TrainConfig

START_STATES = 0
"""The seed of the start states, of all replicas alike."""

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class States:
    """States, and an action in each: the one in the data, or that of the replica that was there."""

    observation: Observation
    actions: Shaped[NDArray[Any], "N *A"]


@dataclass(frozen=True)
class Measured:
    """What is known of M replicas.

    Args:
        predictions: for each kind of states (``held_out``, ``visited``) and each of ``action``
            ``[M, N, A]``, or choices ``[M, N]``, ``value`` and ``critic`` ``[M, N]``, as far as
            the learner has them.
        earlier: the same, by the last checkpoint before the end of training.
        updates_between: updates from that checkpoint to the end.
        scores: ``return``, ``success`` and ``length``, ``[M]``; success is NaN if undefined.
        alive: False for a replica whose numbers were not finite.
    """

    predictions: Mapping[str, Arrays]
    earlier: Mapping[str, Arrays]
    updates_between: int
    scores: Mapping[str, list[float]]
    alive: NDArray[np.bool_]


def measure_replicas(config: TrainConfig, measure: MeasureConfig, directory: Path) -> Measured:
    """Load a finished run's replicas, let them act from the same start states, and ask them.

    Args:
        config: of the run.
        measure: how many states and episodes.
        directory: the run directory.

    Raises:
        UserError: if the run has no checkpoint from before its end, or no data were held out.
    """
    final, before = _last_two(directory)
    components = Components(config, directory / "dataset.hdf5")
    try:
        learner = components.learner
        learner.load_state_dict(_networks(final))
        visited, scores = _let_act(components, measure)
        states = {"visited": visited}
        held_out = _held_out(config, components, measure.states, directory)
        if held_out is not None:
            states = {"held_out": held_out, **states}
        predictions = {kind: _ask(components, learner, here) for kind, here in states.items()}
        everyone = torch.ones(len(config.seeds), dtype=torch.bool)
        alive = learner.alive if isinstance(learner, FreezesSeeds) else everyone
        finite = alive.cpu().numpy().copy()
        learner.load_state_dict(_networks(before))
        earlier = {kind: _ask(components, learner, here) for kind, here in states.items()}
    finally:
        components.close()
    return Measured(predictions, earlier, _updates(final) - _updates(before), scores, finite)


class _Recording:
    """A policy that remembers what it saw and did."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.observations: list[Observation] = []
        self.actions: list[Tensor] = []

    def act(self, obs: Observation, streams: Streams | None) -> Tensor:
        actions = self._policy.act(obs, streams)
        self.observations.append(obs.for_each(lambda tensor: tensor.cpu().clone()))
        self.actions.append(actions.cpu().clone())
        return actions


def _let_act(
    components: Components, measure: MeasureConfig
) -> tuple[States, dict[str, list[float]]]:
    """Equally many of the states that each replica visits, and the replicas' scores."""
    replicas = len(components.config.seeds)
    evaluator = Evaluator(
        Environments(components.settings, replicas * measure.num_envs),
        components.spec,
        Streams([START_STATES] * replicas, ("reproducibility",)),
        components.device,
        observes_share=components.observes_share,
    )
    policy = _Recording(components.learner.policy())
    try:
        alone = np.zeros((replicas, measure.episodes), np.int64)
        evaluation = evaluator.evaluate(policy, None, alone, "visited states")
    finally:
        evaluator.close()
    observations = joined(policy.observations, 1)
    actions = torch.cat(policy.actions, 1)
    draws = np.random.default_rng(seed_sequence(START_STATES, "visited states"))
    share = max(1, measure.states // replicas)
    rows = [draws.permutation(observations.leading[1])[:share] for _ in range(replicas)]
    finite = torch.nan_to_num(actions)
    states = States(
        joined([observations[i, chosen] for i, chosen in enumerate(rows)]),
        np.concatenate([finite[i, chosen].numpy() for i, chosen in enumerate(rows)]),
    )
    return states, evaluation.means()


def _held_out(
    config: TrainConfig, components: Components, count: int, directory: Path
) -> States | None:
    """States of the data that no replica was trained on; None without data."""
    if not isinstance(config.dataset, SubsetOptions):
        return None
    whole = replace(config.dataset, transitions=None)
    everything = build_dataset(whole, config.env, components.spec, directory / "dataset.hdf5")
    assert everything is not None
    taken = config.dataset.transitions or len(everything)
    data = everything.held_out(taken, config.dataset.seed, count)
    data = data_with_share(data) if components.observes_share else data
    return States(data.observed(slice(None)), data.actions)


@torch.no_grad()
def _ask(components: Components, learner: Learner, states: States) -> Arrays:
    """What every replica says of the same states."""
    replicas = len(components.config.seeds)
    observation = states.observation.to(components.device)
    observation = observation.for_each(lambda tensor: tensor.expand(replicas, *tensor.shape))
    actions = torch.from_numpy(states.actions).to(components.device)
    said = {"action": learner.policy().act(observation, None)}
    if isinstance(learner, PredictsValues):
        said |= learner.predict(observation, actions.expand(replicas, *actions.shape))
    return {name: value.cpu().numpy().copy() for name, value in said.items()}


def _last_two(directory: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The final checkpoint, and the last one with fewer updates."""
    paths = checkpoint_paths(directory / "checkpoints")
    final = load_checkpoint(paths[-1])
    for path in reversed(paths[:-1]):
        state = load_checkpoint(path)
        if _updates(state) < _updates(final):
            return final, state
    raise UserError(
        f"{directory} has no checkpoint from before the end of its training, which tells how far "
        "a single run moves; choose a smaller checkpoint.interval"
    )


def _updates(state: Mapping[str, Any]) -> int:
    return int(state["clock"]["offline_updates"] + state["runner"]["updates"])


def _networks(state: Mapping[str, Any]) -> dict[str, Any]:
    """The learner's state: while it is trained offline, that of the guide to be."""
    offline = state["clock"]["stage"] in ("offline", "measure")
    wanted: dict[str, Any] = state["guide_learner"] if offline else state["learner"]
    return wanted
