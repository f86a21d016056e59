"""Collect offline data by letting a guide act."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from jsrl.core.protocols import Guide
from jsrl.core.specs import EnvSpec
from jsrl.core.streams import Streams
from jsrl.core.transitions import Frames, Moment, TransitionData
from jsrl.envs.make import Environments, Step
from jsrl.rollout.stepper import Stepper

MEMBER = "guide_member"


def collect(
    environments: Environments,
    spec: EnvSpec,
    guide: Guide,
    transitions: int,
    seed: int,
    report: Callable[[int], None] = lambda done: None,
    infos: dict[str, NDArray[Any]] | None = None,
) -> TransitionData:
    """Whole episodes of ``guide``, until there are ``transitions`` transitions.

    Episodes follow one another in the order of their numbers. The last one is cut where the
    number is reached, and marked as a timeout there.

    Args:
        environments: E of them. The result depends on the seed and on E.
        spec: what they are.
        guide: acts in every step; for S = 1.
        transitions: N.
        seed: of start states and of the guide's noise.
        report: called with the number of transitions collected so far.
        infos: filled with what is known of each transition besides: ``guide_member``, int64
            ``[N]``, which of several guides acted.
    """
    streams = Streams([seed], ("collect",))
    stepper = Stepper(environments, spec, 1, torch.device("cpu"))
    stepper.guide_steps[:] = spec.max_episode_steps
    recorder = _Recorder()
    resets = 0
    while recorder.complete_transitions() < transitions:
        if stepper.some_ended:
            seeds = [0] * environments.count
            for index in np.flatnonzero(stepper.ended):
                seeds[index] = streams.integer("reset", resets)[0]
                stepper.episodes[index] = resets
                resets += 1
            stepper.begin(stepper.ended, seeds, guide)
        recorder.add(*stepper.step(None, guide, streams, explores=False))
        stepper.tell_of_ends(guide)
        report(min(recorder.complete_transitions(), transitions))
    return recorder.first(transitions, infos)


class _Recorder:
    """Transitions of E environments, sorted into numbered episodes."""

    def __init__(self) -> None:
        self._episodes: dict[int, list[dict[str, NDArray[Any]]]] = {}
        self._finished: set[int] = set()

    def add(self, moment: Moment, step: Step) -> None:
        """One step of every environment."""
        fields: dict[str, NDArray[Any]] = {
            "observations": moment.observation.vector.numpy(),
            "actions": moment.actions,
            "rewards": step.rewards,
            "next_observations": step.observation.vector.numpy(),
            "terminals": step.terminated,
            "timeouts": step.truncated & ~step.terminated,
        }
        if moment.members is not None:
            fields[f"info {MEMBER}"] = moment.members
        for name, image in moment.observation.images.items():
            fields[f"image {name}"] = image.numpy()
            fields[f"next image {name}"] = step.observation.images[name].numpy()
        for place, episode in enumerate(map(int, moment.episodes)):
            # A copy: the environments may write into the same arrays again.
            row = {name: np.array(field[place]) for name, field in fields.items()}
            self._episodes.setdefault(episode, []).append(row)
            if row["terminals"] or row["timeouts"]:
                self._finished.add(episode)

    def complete_transitions(self) -> int:
        """Transitions in the unbroken run of finished episodes from number 0 on."""
        total, episode = 0, 0
        while episode in self._finished:
            total += len(self._episodes[episode])
            episode += 1
        return total

    def first(self, transitions: int, infos: dict[str, NDArray[Any]] | None) -> TransitionData:
        """So many of them, in the order of the episodes; see ``collect`` for ``infos``."""
        rows = [row for episode in sorted(self._episodes) for row in self._episodes[episode]]
        rows = rows[:transitions]
        columns = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        if (members := columns.pop(f"info {MEMBER}", None)) is not None and infos is not None:
            infos[MEMBER] = members
        columns["timeouts"][-1] = not columns["terminals"][-1]
        ends = columns["terminals"] | columns["timeouts"]
        names = [name.removeprefix("image ") for name in columns if name.startswith("image ")]
        arrays = {name: array for name, array in columns.items() if "image " not in name}
        pairs = {n: (columns[f"image {n}"], columns[f"next image {n}"]) for n in names}
        return TransitionData(**arrays, frames=_frames(pairs, ends) if pairs else None)


def _frames(pairs: dict[str, tuple[NDArray[Any], NDArray[Any]]], ends: NDArray[np.bool_]) -> Frames:
    """Images before and after each transition, each stored once: an episode has one more."""
    count = len(ends)
    after_end = np.concatenate([[0], np.cumsum(ends)[:-1]])
    at = np.arange(count) + after_end
    images = {}
    for name, (before, after) in pairs.items():
        stored = np.zeros((count + int(ends.sum()), *before.shape[1:]), np.uint8)
        stored[at] = before
        stored[at[ends] + 1] = after[ends]
        images[name] = stored
    return Frames(images, at, at + 1)
