"""Evaluation, in environments of its own, of guide, combined policy and exploration-policy.

Start states are keyed by (evaluation, episode), so that the policies are compared from the same
ones, and nothing of the training's clocks or draws moves.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray

from jsrl.core.protocols import Curriculum, Guide, Policy, StepObserver
from jsrl.core.specs import EnvSpec
from jsrl.core.streams import Key, Streams
from jsrl.core.transitions import Moment
from jsrl.envs.make import Environments

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


class Evaluator:
    """Runs evaluation episodes for S seeds, E at a time each.

    Args:
        environments: S·E of them, used for nothing else.
        spec: what they are.
        streams: the seeds; start states are drawn from them by evaluation and episode.
        device: where the policies are.
    """

    def __init__(
        self, environments: Environments, spec: EnvSpec, streams: Streams, device: torch.device
    ) -> None:
        self._environments = environments
        self._spec = spec
        self._streams = streams
        self._device = device
        self._num_envs = environments.count // len(streams)
        self.observer: StepObserver | None = None
        # Told after every step how many episodes ended in it, to show progress.
        self.told: Callable[[int], None] | None = None

    @property
    def time_limit(self) -> int:
        """H, the longest that an episode can be."""
        return self._spec.max_episode_steps

    def success_line(self) -> str | None:
        """That the environments have said nothing of success so far, if so; see there."""
        return self._environments.success_line()

    def close(self) -> None:
        self._environments.close()

    def evaluate(
        self,
        exploration: Policy | None,
        guide: Guide | None,
        guide_steps: Int[NDArray[np.int64], "S N"],
        key: Key,
    ) -> Evaluation:
        """N episodes of each seed; the exploration-policy acts by its mode.

        Args:
            exploration: acts after the guide; None where the guide acts throughout.
            guide: acts in the first steps; not called where h is 0.
            guide_steps: h of each episode.
            key: which evaluation this is: the same key gives the same start states.
        """
        if self.observer is not None:
            self.observer.restart()
        return _Run(self, exploration, guide, guide_steps, key).finish()


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
    modes: Sequence[str], guide: Guide | None, combined_steps: Int[NDArray[np.int64], "S N"]
) -> list[str]:
    """Those of ``evaluate_modes`` that need episodes of their own."""
    guide_never_acts = guide is None or not combined_steps.any()
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
) -> dict[str, Evaluation]:
    """Evaluate ``guide`` alone, ``combined`` at h, ``exploration`` alone: those in ``modes``.

    All start from the same states. Without a guide, ``guide`` is left out, and ``combined`` is
    ``exploration``; so it is where h is 0 in every episode.
    """
    acts = {
        "exploration": (exploration, None, np.zeros_like(combined_steps)),
        "combined": (exploration, guide, combined_steps),
        "guide": (None, guide, np.full_like(combined_steps, evaluator.time_limit)),
    }
    results = {
        mode: evaluator.evaluate(*acts[mode], key)
        for mode in modes_to_play(modes, guide, combined_steps)
    }
    if "combined" in modes and "combined" not in results:
        results["combined"] = results["exploration"]
    return {mode: results[mode] for mode in modes if mode in results}


class _Run:
    """One evaluation: a queue of episodes for each seed, from which its free environments draw."""

    def __init__(
        self,
        evaluator: Evaluator,
        exploration: Policy | None,
        guide: Guide | None,
        guide_steps: Int[NDArray[np.int64], "S N"],
        key: Key,
    ) -> None:
        self._environments = evaluator._environments
        self._observer = evaluator.observer
        self._told = evaluator.told
        self._device = evaluator._device
        self._action_size = evaluator._spec.action_size
        self._exploration = exploration
        self._guide = guide
        self._steps = guide_steps
        self._streams = evaluator._streams.child("evaluation", key)
        self._shape = (len(evaluator._streams), evaluator._num_envs)
        count = self._environments.count
        # Which episode each environment is in; -1 for one that only keeps the others company.
        self._episode = np.full(count, -1, np.int64)
        self._next = np.zeros(self._shape[0], np.int64)
        self._clock = np.zeros(count, np.int64)
        self._return = np.zeros(count, np.float64)
        self._success = np.full(count, self._environments.success_so_far)
        self._observations: NDArray[np.float32] = np.zeros((count, 0), np.float32)
        shape = guide_steps.shape
        self._result = Evaluation(
            np.zeros(shape, np.float64), np.full(shape, np.nan), np.zeros(shape, np.int64)
        )

    def finish(self) -> Evaluation:
        ended = np.ones(self._environments.count, bool)
        self._take_episodes(ended)
        while (self._episode >= 0).any():
            step = self._environments.step(self._act_and_tell())
            self._observations = step.observations
            self._clock += 1
            self._return += step.rewards
            self._success = np.fmax(self._success, step.successes)
            ended = step.terminated | step.truncated
            finished = ended & (self._episode >= 0)
            if ended.any():
                self._record(finished)
                self._take_episodes(ended)
            if self._told is not None:
                self._told(int(finished.sum()))
        return self._result

    def _take_episodes(self, mask: NDArray[np.bool_]) -> None:
        """The next episode of its seed for each environment in ``mask``, while there are any."""
        seeds = [0] * len(mask)
        for index in np.flatnonzero(mask):
            seed = int(index) // self._shape[1]
            episode = int(self._next[seed])
            if episode < self._steps.shape[1]:
                self._next[seed] += 1
                self._episode[index] = episode
                seeds[index] = self._streams.select(seed).integer("reset", episode)[0]
            else:
                self._episode[index] = -1
        self._clock[mask] = 0
        self._return[mask] = 0
        self._success[mask] = self._environments.success_so_far
        if (self._episode >= 0).any():
            self._observations = self._environments.reset(mask, seeds)
            if self._guide is not None:
                self._guide.reset(torch.from_numpy(mask).view(*self._shape))

    def _record(self, mask: NDArray[np.bool_]) -> None:
        for index in np.flatnonzero(mask):
            where = (int(index) // self._shape[1], int(self._episode[index]))
            self._result.returns[where] = self._return[index]
            self._result.successes[where] = self._success[index]
            self._result.lengths[where] = self._clock[index]

    def _act_and_tell(self) -> Float[NDArray[np.float32], "N A"]:
        watched = None if self._observer is None else self._observer.begin_step()
        with watched or nullcontext():
            actions = self._act()
        if watched is not None and self._observer is not None:
            self._observer.acted(
                Moment(
                    observations=self._observations,
                    actions=actions,
                    episodes=self._episode.copy(),
                    times=self._clock.copy(),
                    by_guide=self._by_guide(),
                    stages=np.full(len(self._clock), -1),
                    counts=self._episode >= 0,
                )
            )
        return actions

    def _act(self) -> Float[NDArray[np.float32], "N A"]:
        observations = torch.from_numpy(self._observations).view(*self._shape, -1)
        observations = observations.to(self._device)
        by_guide = self._by_guide()
        mask = torch.from_numpy(by_guide).view(*self._shape)
        playing = self._episode >= 0
        actions = torch.zeros(*self._shape, self._action_size, device=self._device)
        if self._exploration is not None and (playing & ~by_guide).any():
            actions = self._exploration.act(observations, None)
        if self._guide is not None and by_guide.any():
            guided = self._guide.act(observations, self._streams, mask)
            actions = torch.where(mask.unsqueeze(-1).to(self._device), guided, actions)
        # A seed that failed in training stands still.
        chosen: NDArray[np.float32] = torch.nan_to_num(actions).cpu().numpy()
        return chosen.reshape(len(by_guide), -1)

    def _by_guide(self) -> NDArray[np.bool_]:
        if self._guide is None:
            return np.zeros(len(self._clock), bool)
        seeds = np.arange(len(self._clock)) // self._shape[1]
        steps = self._steps[seeds, np.maximum(self._episode, 0)]
        return (self._episode >= 0) & (self._clock < steps)


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
