"""Adroit data with a binary reward: demonstrations, and rollouts of a policy cloned from them.

So the binary Adroit data sets came about (Nair et al. 2020, arXiv 2006.09359): 25 human
demonstrations and some hundred episodes of behaviour cloning, which mostly fail. How that policy
was trained and how noisy it was is not told; here it is fitted by least squares and acts with
Gaussian noise of a fixed standard deviation.

Success is a function of the observation (``envs.adroit.SOLVED``), so a demonstration is relabelled
from what was recorded. Nothing is replayed: that would not be exact. The human demonstrations of
`door` begin with the arm up to 0.5 rad away from the initial state that is stored with them, and
contacts differ between versions of MuJoCo.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from numpy.typing import NDArray

from jsrl.core.errors import UserError
from jsrl.core.protocols import Guide, Phase
from jsrl.core.specs import EnvSpec
from jsrl.core.streams import Streams
from jsrl.core.transitions import TransitionData
from jsrl.datasets.collect import collect
from jsrl.datasets.d4rl import save_hdf5
from jsrl.datasets.dataset import Dataset
from jsrl.envs.adroit import BinaryTask
from jsrl.envs.make import Environments, EnvSettings
from jsrl.guides import GuideView, NetworkGuide
from jsrl.learners.bc import BC, BCOptions
from jsrl.learners.options import LearnerInputs
from jsrl.rollout.offline_store import OfflineStore
from jsrl.rollout.replay import Replay

COLLECTING_ENVIRONMENTS = 8
"""Stepped side by side. Results depend on this number."""


def relabel(demonstrations: Dataset, task: BinaryTask) -> TransitionData:
    """Demonstrations with the task's rewards, and ended where the task ends them.

    Longer demonstrations than the time limit stay whole. An end that the recording calls terminal
    becomes a timeout, since a binary task ends by success or not at all; where its successor was
    not recorded (``make_dataset`` lets the observation itself stand in), the transition is dropped.

    Args:
        demonstrations: in the task's observations; their rewards are not looked at.
        task: what to label for.

    Raises:
        UserError: if nothing is left.
    """
    data = demonstrations.data
    ends = data.terminals | data.timeouts
    known = ~(data.terminals & (data.next_observations == data.observations).all(-1))
    solved = task.solved(data.next_observations)
    kept = known & (_first_success(solved, ends) if task.end_on_success else True)
    if not kept.any():
        raise UserError(
            f"demonstrations {demonstrations.source}: no transition has a known successor; "
            "expected whole episodes; choose another file"
        )
    # What is cut off stands at an episode's end: the row before it is the new last one.
    last = ends | np.append(~kept[1:], True)
    terminals = solved & task.end_on_success
    labelled = replace(
        data,
        rewards=task.rewards(solved).astype(np.float32),
        terminals=terminals,
        timeouts=last & ~terminals,
    )
    return labelled.take(np.flatnonzero(kept))


def cloned_guide(
    data: TransitionData,
    spec: EnvSpec,
    updates: int,
    dropout: float,
    noise: float,
    seed: int,
    report: Callable[[int], None] = lambda done: None,
) -> Guide:
    """Behaviour cloning of ``data``: least squares, then Gaussian noise on each action.

    Args:
        data: what to imitate.
        spec: of the environment.
        updates: gradient steps.
        dropout: while it learns; 25 demonstrations overfit soon.
        noise: standard deviation, in units of half the action range.
        seed: of initial weights and minibatches.
        report: called with the number of updates done.
    """
    cpu = torch.device("cpu")
    streams = Streams([seed], ("behaviour cloning",))
    # With a fixed deviation, maximum likelihood is least squares. A learnt one grows so large on
    # human demonstrations that no rollout opens the door, or with time so small that it overfits.
    options = BCOptions(dropout=dropout, log_std_range=[math.log(noise), math.log(noise)])
    learner = BC(options, LearnerInputs(streams, spec.observation, spec.actions, cpu))
    discount = learner.needs.discount
    store = OfflineStore(data, spec.observation, spec.actions, discount=discount, device=cpu)
    replay = Replay(store, None, options.batch_size, None, cpu)
    learner.start_phase(Phase.OFFLINE, updates)
    for done in range(1, updates + 1):
        learner.update(replay.sample(streams), learner.draws(streams))
        report(done)
    return NetworkGuide.from_policy(learner.policy(), GuideView(), spec, sample=True)


def collect_adroit(
    path: Path,
    settings: EnvSettings,
    spec: EnvSpec,
    demonstrations: TransitionData | None,
    guide: Guide,
    transitions: int,
    seed: int,
    attributes: Mapping[str, bool | int | float | str],
    report: Callable[[int], None] = lambda done: None,
) -> None:
    """Write demonstrations, then rollouts of ``guide``, ``transitions`` in all.

    ``infos/demonstration`` tells which transitions are demonstrations.

    Args:
        path: the file, in D4RL's layout.
        settings: of the environment.
        spec: of it, too.
        demonstrations: as ``relabel`` gives them; None for rollouts alone.
        guide: acts in the rollouts, for S = 1, with the noise that it has.
        transitions: at least as many as the demonstrations have.
        seed: of the rollouts.
        attributes: what to remember about the file.
        report: called with the number of transitions so far.
    """
    parts = [] if demonstrations is None else [demonstrations]
    shown = sum(map(len, parts))
    if transitions > shown:
        environments = Environments(settings, COLLECTING_ENVIRONMENTS)
        try:
            parts.append(
                collect(
                    environments,
                    spec,
                    guide,
                    transitions - shown,
                    seed,
                    lambda done: report(shown + done),
                )
            )
        finally:
            environments.close()
    save_hdf5(path, _joined(parts), {"demonstration": np.arange(transitions) < shown}, attributes)


def _first_success(
    solved: Bool[NDArray[np.bool_], " N"], ends: Bool[NDArray[np.bool_], " N"]
) -> Bool[NDArray[np.bool_], " N"]:
    """The rows of each episode up to its first success."""
    kept = np.ones(len(solved), bool)
    start = 0
    for end in np.flatnonzero(ends) + 1:
        found = np.flatnonzero(solved[start:end])
        if len(found):
            kept[start + found[0] + 1 : end] = False
        start = int(end)
    return kept


def _joined(parts: list[TransitionData]) -> TransitionData:
    each = [part.arrays() for part in parts]
    joined: dict[str, Any] = {n: np.concatenate([arrays[n] for arrays in each]) for n in each[0]}
    return TransitionData(**joined)
