"""Requests that a deployed network answers independently: each one is an episode of one sample."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.core.streams import Streams
from jsrl.monitor.capture.layers import first_tensor
from jsrl.monitor.capture.samples import Sample
from jsrl.monitor.capture.steps import ACTORS, PHASES, WatchedSteps
from jsrl.monitor.watch.locks import PicklableLock


class DeployedRequests:
    """Chooses and numbers the requests that are watched; nothing is kept of them.

    Batches may be of any size, and several threads may use it at a time.

    Args:
        share: the probability that a request is watched, in (0, 1].
        observation_dims: how many axes an observation has; the axes before them are requests.
        seed: the seed that the samples bear, and that requests are chosen by.

    Raises:
        UserError: if the share is out of range.
    """

    all_ended = True

    def __init__(self, share: float, observation_dims: int, seed: int) -> None:
        if not 0 < share <= 1:
            raise UserError(f"share={share} must be above 0 and at most 1")
        self._share = share
        self._observation_dims = observation_dims
        self._seed = seed
        self._draws = Streams([seed], ("requests",)).integer("share")[0]
        self._lock = PicklableLock()
        self._call = 0
        self._next_number = 0
        self._sizes: dict[str, int] = {}

    def begin_step(self, observations: Any) -> int | None:
        """Begin a call, and say its number if one of its requests is to be watched, or None.

        Raises:
            UserError: if the observations are no tensor.
        """
        if not isinstance(observations, Tensor):
            raise UserError(
                f"the network was called with a {type(observations).__name__}; what can be looked "
                "at is a torch.Tensor"
            )
        with self._lock:
            self._call += 1
            call = self._call
        return call if len(self._chosen(call, observations)) else None

    def end_step(self) -> None:
        """Nothing goes on from one request to the next."""

    def keep(
        self, step: int, observations: Tensor, answer: Any, seen: Mapping[str, Tensor]
    ) -> Sample:
        """The watched requests of a call.

        Args:
            step: the number of the call.
            observations: what the network was called with.
            answer: what it answered: a tensor, or what begins with one.
            seen: the activations of each layer.

        Returns:
            One sample of each watched request, each in an episode of its own.

        Raises:
            UserError: if there is no tensor in the answer, or a size has changed.
        """
        action = first_tensor(answer)
        if action is None:
            raise UserError(
                f"the network answered a {type(answer).__name__}; a tensor, or a tuple that begins "
                "with one, was expected: wrap the network in a module that answers that"
            )
        count = self._count(observations)
        named = {"the observation": observations, "the answer": action, **seen}
        uneven = [name for name, value in named.items() if value.numel() % count]
        if uneven:
            raise UserError(f"{', '.join(uneven)} cannot be divided among {count} requests")
        rows = {name: value.reshape(count, -1) for name, value in named.items()}
        sizes = {name: value.shape[1] for name, value in rows.items()}
        chosen = self._chosen(step, observations)
        with self._lock:
            self._sizes = self._sizes or sizes
            other = [name for name in sizes if sizes[name] != self._sizes.get(name)]
            if other:
                told = ", ".join(f"{n} has {sizes[n]}, before {self._sizes.get(n)}" for n in other)
                raise UserError(f"numbers for each request have changed: {told}")
            first = self._next_number
            self._next_number += len(chosen)
        numbers = np.arange(first, first + len(chosen))
        steps = self._steps(step, rows["the observation"], rows["the answer"], chosen, numbers)
        return Sample(steps, {name: _taken(rows[name], chosen) for name in seen})

    def _count(self, observations: Tensor) -> int:
        return observations.shape[: observations.ndim - self._observation_dims].numel()

    def _chosen(self, call: int, observations: Tensor) -> Int[NDArray[np.int64], " N"]:
        """The places of the requests of a call that are watched, which its number decides."""
        count = self._count(observations)
        if self._share == 1:
            return np.arange(count)
        draws = np.random.default_rng((self._draws, call)).random(count)
        return np.flatnonzero(draws < self._share)

    def _steps(
        self,
        call: int,
        observations: Tensor,
        answers: Tensor,
        chosen: Int[NDArray[np.int64], " N"],
        numbers: Int[NDArray[np.int64], " N"],
    ) -> WatchedSteps:
        seen, done = (
            _taken(part.detach(), chosen).float().cpu().numpy() for part in (observations, answers)
        )
        count = len(chosen)
        return WatchedSteps(
            observations=seen,
            actions=done,
            step=np.full(count, call),
            episode=numbers,
            time=np.zeros(count, np.int64),
            phase=np.full(count, PHASES.index("deployed")),
            stage=np.full(count, -1),
            actor=np.full(count, ACTORS.index("exploration")),
            seed=np.full(count, self._seed),
        )


def one_by_one(sample: Sample) -> list[Sample]:
    """Each of the N samples by itself, copied, so that none of them keeps the others in memory."""
    count = len(sample.steps)
    return [sample] if count == 1 else [sample.take(np.array([i])) for i in range(count)]


def _taken(rows: Tensor, chosen: NDArray[np.int64]) -> Tensor:
    """A copy of the chosen rows."""
    return rows[chosen.tolist()]
