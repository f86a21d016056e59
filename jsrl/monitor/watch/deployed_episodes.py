"""The episodes that a deployed policy is in the middle of: one for each robot that it acts for."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool
from numpy.typing import NDArray
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.monitor.capture.layers import first_tensor
from jsrl.monitor.capture.samples import Sample
from jsrl.monitor.capture.steps import ACTORS, PHASES, WatchedSteps
from jsrl.monitor.watch.locks import PicklableLock
from jsrl.monitor.watch.unfinished_episodes import UnfinishedEpisodes


class DeployedEpisodes:
    """Numbers episodes and steps, and keeps watched steps until their episodes end.

    Several threads may use it at a time.

    Args:
        interval: the steps from one that is watched to the next.
        observation_dims: how many axes an observation has; the axes before them are robots.
        seed: the seed that the steps bear.
    """

    def __init__(self, interval: int, observation_dims: int, seed: int) -> None:
        self._interval = interval
        self._observation_dims = observation_dims
        self._seed = seed
        self._unfinished = UnfinishedEpisodes()
        self._lock = PicklableLock()
        self._step = 0
        self._clocks: NDArray[np.int64] | None = None
        self._numbers = np.zeros(0, np.int64)
        self._next_number = 0
        self._sizes: dict[str, int] = {}
        self._ended: dict[int, Sample] = {}

    @property
    def all_ended(self) -> bool:
        """Whether no episode is under way."""
        with self._lock:
            return self._clocks is None or not self._clocks.any()

    def begin_step(self, observations: Any) -> int | None:
        """Begin a step, and say its number if it is to be watched, or None.

        Raises:
            UserError: if the observations are no tensor, or their number has changed.
        """
        if not isinstance(observations, Tensor):
            raise UserError(
                f"the policy was called with a {type(observations).__name__}; what can be looked "
                "at is a torch.Tensor"
            )
        count = observations.shape[: observations.ndim - self._observation_dims].numel()
        with self._lock:
            if self._clocks is None and count > 0:
                self._clocks = np.zeros(count, np.int64)
                self._numbers = np.arange(count)
                self._next_number = count
            if self._clocks is None or len(self._clocks) != count:
                before = 0 if self._clocks is None else len(self._clocks)
                raise UserError(
                    f"the policy was called with {count} observations, before with {before}; use a "
                    "monitor for each size of a batch"
                )
            self._step += 1
            return self._step if self._step % self._interval == 0 else None

    def end_step(self) -> None:
        """Note that the policy has answered."""
        with self._lock:
            if self._clocks is not None:
                self._clocks += 1

    def keep(
        self, step: int, observations: Tensor, answer: Any, seen: Mapping[str, Tensor]
    ) -> Sample:
        """Keep what was watched in a step, for as long as its episodes go on.

        Args:
            step: the number of the step.
            observations: what the policy was called with.
            answer: what the policy answered: an action, or a tuple that begins with one.
            seen: the activations of each layer.

        Returns:
            One step of each robot.

        Raises:
            UserError: if the answer is no action, or a size has changed.
        """
        action = first_tensor(answer)
        if action is None:
            raise UserError(
                f"the policy answered a {type(answer).__name__}; an action, or a tuple that begins "
                "with one, was expected: wrap the policy in a module that answers that"
            )
        parts = {"the observation": observations, "the action": action, **seen}
        with self._lock:
            assert self._clocks is not None
            robots = len(self._clocks)
            sizes = {name: value.numel() // robots for name, value in parts.items()}
            self._sizes = self._sizes or sizes
            other = [name for name in sizes if sizes[name] != self._sizes[name]]
            if other:
                told = ", ".join(f"{n} has {sizes[n]}, before {self._sizes[n]}" for n in other)
                raise UserError(f"numbers for each robot have changed: {told}")
            watched = Sample(
                self._steps_of_robots(step, observations, action),
                {n: v.reshape(robots, -1) for n, v in seen.items()},
            )
            for robot in range(robots):
                number = int(self._numbers[robot])
                count = int(self._clocks[robot]) // self._interval
                if self._unfinished.keeps(number, count):
                    self._unfinished.add(number, watched.take(np.array([robot])))
        return watched

    def end_episodes(self, mask: Bool[NDArray[np.bool_], " B"] | None) -> list[Sample]:
        """End the episodes of all robots, or of those in the mask.

        Returns:
            Episodes that can be tested, in the order in which they began.

        Raises:
            UserError: if the mask has another size.
        """
        with self._lock:
            if self._clocks is None:
                return []
            ended = np.ones(len(self._clocks), bool) if mask is None else np.asarray(mask, bool)
            if ended.shape != self._clocks.shape:
                raise UserError(
                    f"mask has shape {ended.shape}; expected one entry for each of the "
                    f"{len(self._clocks)} robots that the policy was called with"
                )
            for robot in np.flatnonzero(ended):
                number = int(self._numbers[robot])
                episode = self._unfinished.pop(number)
                if episode is not None:
                    self._ended[number] = episode
                self._clocks[robot] = 0
                self._numbers[robot] = self._next_number
                self._next_number += 1
            return list(self._in_order())

    def _in_order(self) -> Iterator[Sample]:
        """The ended episodes that can be tested, in the order in which they began.

        The episodes that end first are the short ones. So each episode waits until all episodes
        that began before it have ended.
        """
        oldest = int(self._numbers.min())
        for number in sorted(number for number in self._ended if number < oldest):
            yield self._ended.pop(number)

    def _steps_of_robots(self, step: int, observations: Tensor, action: Tensor) -> WatchedSteps:
        assert self._clocks is not None
        robots = len(self._clocks)
        seen, done = (
            part.detach().float().cpu().numpy().reshape(robots, -1).copy()
            for part in (observations, action)
        )
        return WatchedSteps(
            observations=seen,
            actions=done,
            step=np.full(robots, step),
            episode=self._numbers.copy(),
            time=self._clocks.copy(),
            phase=np.full(robots, PHASES.index("deployed")),
            stage=np.full(robots, -1),
            actor=np.full(robots, ACTORS.index("exploration")),
            seed=np.full(robots, self._seed),
        )
