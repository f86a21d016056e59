"""Evaluation, in environments of its own, of guide, combined policy and exploration-policy.

Start states are keyed by (evaluation, episode), so that the policies are compared from the same
ones, and nothing of the training's clocks or draws moves. What a rule of who acts draws is keyed by
(evaluation, step, environment) instead: with another number of environments it draws otherwise.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray

from jsrl.core.arbitration import ArbiterInForce
from jsrl.core.protocols import Curriculum, Guide, Policy
from jsrl.core.specs import EnvSpec
from jsrl.core.streams import Key, Streams
from jsrl.envs.make import Environments
from jsrl.rollout.stepper import Stepper, Watched

FINAL_EVALUATION = "final"
"""Key of the final evaluation, and of the guide's; the others are keyed by environment step."""


@dataclass(frozen=True)
class Evaluation:
    """N episodes of each of S seeds, in the order of their numbers; success is NaN if undefined."""

    returns: Float[NDArray[np.float64], "S N"]
    successes: Float[NDArray[np.float64], "S N"]
    lengths: Int[NDArray[np.int64], "S N"]

    def means(self) -> dict[str, list[float]]:
        """Mean return, success and length of each seed."""
        return {
            "return": self.returns.mean(1).tolist(),
            "success": self.successes.mean(1).tolist(),
            "length": self.lengths.mean(1).tolist(),
        }

    def first(self, episodes: int) -> "Evaluation":
        """The first of them: what an evaluation of so many with the same key would have been."""
        return Evaluation(
            self.returns[:, :episodes], self.successes[:, :episodes], self.lengths[:, :episodes]
        )

    def after(self, episodes: int) -> "Evaluation":
        """Those that follow the first so many; there may be none."""
        return Evaluation(
            self.returns[:, episodes:], self.successes[:, episodes:], self.lengths[:, episodes:]
        )


class Evaluator(Watched):
    """Runs evaluation episodes for S seeds, E at a time each.

    Args:
        environments: S·E of them, used for nothing else.
        spec: what they are.
        streams: the seeds; start states are drawn from them by evaluation and episode.
        device: where the policies are.
        observes_share: whether the exploration-policy observes its share, 1 where it acts alone.
    """

    def __init__(
        self,
        environments: Environments,
        spec: EnvSpec,
        streams: Streams,
        device: torch.device,
        *,
        observes_share: bool = False,
    ) -> None:
        seeds = len(streams)
        self._stepper = Stepper(environments, spec, seeds, device, observes_share=observes_share)
        self._streams = streams
        # Told after every step how many episodes ended in it, to show progress.
        self.told: Callable[[int], None] | None = None

    @property
    def time_limit(self) -> int:
        """H, the longest that an episode can be."""
        return self._stepper.spec.max_episode_steps

    def success_line(self) -> str | None:
        """That the environments have said nothing of success so far, if so; see there."""
        return self._stepper.environments.success_line()

    def close(self) -> None:
        self._stepper.environments.close()

    def evaluate(
        self,
        exploration: Policy | None,
        guide: Guide | None,
        guide_steps: Int[NDArray[np.int64], "S N"],
        key: Key,
        arbiter: ArbiterInForce | None = None,
    ) -> Evaluation:
        """N episodes of each seed; the exploration-policy acts by its mode.

        Args:
            exploration: acts where the guide does not; None where the guide acts throughout.
            guide: acts where the rule says so; without a rule in the first h steps, so that it is
                not called where h is 0.
            guide_steps: h of each episode.
            key: which evaluation this is: the same key gives the same start states.
            arbiter: the rule of who acts, which learns nothing here; None for JSRL's handover.
        """
        if self.observer is not None:
            self.observer.restart()
        self._stepper.follow(arbiter, learns=False)
        streams = self._streams.child("evaluation", key)
        return _Run(self._stepper, self.told, guide_steps, streams).finish(exploration, guide)


def guide_steps_of_episodes(
    curricula: Sequence[Curriculum], streams: Streams, episodes: int, key: Key
) -> Int[NDArray[np.int64], "S N"]:
    """h of each evaluation episode, drawn by (evaluation, episode) where a curriculum draws it."""
    return np.array(
        [
            [
                curriculum.guide_steps(streams.select(i).child("evaluation", key, episode))
                for episode in range(episodes)
            ]
            for i, curriculum in enumerate(curricula)
        ],
        dtype=np.int64,
    )


def modes_to_play(
    modes: Sequence[str],
    guide: Guide | None,
    combined_steps: Int[NDArray[np.int64], "S N"],
    arbiter: ArbiterInForce | None = None,
) -> list[str]:
    """Those of ``evaluate_modes`` that need episodes of their own."""
    by_clock = arbiter is None or arbiter.is_clock
    guide_never_acts = guide is None or (by_clock and not combined_steps.any())
    found = []
    if "exploration" in modes or ("combined" in modes and guide_never_acts):
        found.append("exploration")
    if "combined" in modes and not guide_never_acts:
        found.append("combined")
    if "guide" in modes and guide is not None:
        found.append("guide")
    return found


def evaluate_modes(
    evaluator: Evaluator,
    modes: Sequence[str],
    exploration: Policy,
    guide: Guide | None,
    combined_steps: Int[NDArray[np.int64], "S N"],
    key: Key,
    arbiter: ArbiterInForce | None = None,
) -> dict[str, Evaluation]:
    """Evaluate ``guide`` alone, ``combined`` by the rule, ``exploration`` alone, as in ``modes``.

    All start from the same states. Without a guide, ``guide`` is left out, and ``combined`` is
    ``exploration``; so it is where a rule that goes by the clock has h 0 in every episode.
    """
    acts = {
        "exploration": (exploration, None, np.zeros_like(combined_steps)),
        "combined": (exploration, guide, combined_steps),
        "guide": (None, guide, np.full_like(combined_steps, evaluator.time_limit)),
    }
    results = {
        mode: evaluator.evaluate(*acts[mode], key, arbiter if mode == "combined" else None)
        for mode in modes_to_play(modes, guide, combined_steps, arbiter)
    }
    if "combined" in modes and "combined" not in results:
        results["combined"] = results["exploration"]
    return {mode: results[mode] for mode in modes if mode in results}


class _Run:
    """One evaluation: a queue of episodes for each seed, from which its free environments draw."""

    def __init__(
        self,
        stepper: Stepper,
        told: Callable[[int], None] | None,
        guide_steps: Int[NDArray[np.int64], "S N"],
        streams: Streams,
    ) -> None:
        self._stepper = stepper
        self._told = told
        self._steps = guide_steps
        self._streams = streams
        self._next = np.zeros(stepper.shape[0], np.int64)
        shape = guide_steps.shape
        self._result = Evaluation(
            np.zeros(shape, np.float64), np.full(shape, np.nan), np.zeros(shape, np.int64)
        )

    def finish(self, exploration: Policy | None, guide: Guide | None) -> Evaluation:
        """Play all episodes."""
        stepper = self._stepper
        stepper.ended = np.ones(len(stepper.clock), bool)
        self._take_episodes(guide)
        while (stepper.episodes >= 0).any():
            stepper.step(exploration, guide, self._streams, explores=False)
            finished = stepper.ended & (stepper.episodes >= 0)
            if stepper.some_ended:
                self._record(finished)
                self._take_episodes(guide)
            if self._told is not None:
                self._told(int(finished.sum()))
        return self._result

    def _take_episodes(self, guide: Guide | None) -> None:
        """The next episode of its seed for each environment that has none, while there are any."""
        stepper, mask = self._stepper, self._stepper.ended
        seeds = [0] * len(mask)
        for index in np.flatnonzero(mask):
            seed = int(index) // stepper.shape[1]
            episode = int(self._next[seed])
            if episode < self._steps.shape[1]:
                self._next[seed] += 1
                stepper.episodes[index] = episode
                stepper.guide_steps[index] = self._steps[seed, episode]
                seeds[index] = self._streams.select(seed).integer("reset", episode)[0]
            else:
                stepper.episodes[index] = -1
        if (stepper.episodes >= 0).any():
            stepper.begin(mask, seeds, guide, self._streams)

    def _record(self, mask: NDArray[np.bool_]) -> None:
        stepper = self._stepper
        for index in np.flatnonzero(mask):
            where = (int(index) // stepper.shape[1], int(stepper.episodes[index]))
            self._result.returns[where] = stepper.returns[index]
            self._result.successes[where] = stepper.successes[index]
            self._result.lengths[where] = stepper.clock[index]


def steps_to_success(evaluation: Evaluation) -> tuple[list[int], list[bool]]:
    """H1 of each seed: mean length of its successful episodes, rounded, at least 1.

    Returns:
        H1 of each seed, and for each whether any episode succeeded. Where none did, or success is
        undefined, H1 is the mean length of all episodes (Uchendu et al. 2023, section 4, made
        precise for a guide that never succeeds).
    """
    steps, solved = [], []
    for lengths, successes in zip(evaluation.lengths, evaluation.successes, strict=True):
        succeeded = successes > 0
        counted = lengths[succeeded] if succeeded.any() else lengths
        steps.append(max(1, round(float(counted.mean()))))
        solved.append(bool(succeeded.any()))
    return steps, solved
