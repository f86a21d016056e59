"""Watched steps together with the activations of a network in them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.monitor.capture.steps import WatchedSteps


@dataclass(frozen=True)
class Sample:
    """N steps of one seed, and the activations of each layer of the network in these steps.

    The activations are those of the network as it is now, not as it was when the steps were taken;
    of a network that sees images, which recordings do not hold, they are those that were recorded.
    """

    steps: WatchedSteps
    activations: Mapping[str, Float[Tensor, "N _"]]

    @classmethod
    def concatenate(cls, samples: Sequence["Sample"], *, renumber: bool = False) -> Self:
        """The steps of all samples, one sample after the other; there must be at least one sample.

        Args:
            samples: what is put together.
            renumber: whether each sample counts as one episode, whose number is its place among
                the samples. Episodes of different recordings may bear the same number.

        Raises:
            UserError: if the observations, the actions or a layer of a sample have another size
                than those of the first sample.
        """
        sizes = samples[0].sizes()
        for sample in samples:
            if sample.sizes() != sizes:
                raise UserError(
                    f"episodes have other sizes than the first: {sample.sizes()}, before {sizes}; "
                    "what is compared has to be of one network and one environment"
                )
        steps = WatchedSteps.concatenate([sample.steps for sample in samples])
        if renumber:
            numbers = np.repeat(np.arange(len(samples)), [len(s.steps) for s in samples])
            steps = replace(steps, episode=numbers.astype(np.int64))
        activations = {
            name: torch.cat([sample.activations[name] for sample in samples])
            for name in samples[0].activations
        }
        return cls(steps, activations)

    def sizes(self) -> dict[str, int]:
        """The size of an observation, of an action and of each layer."""
        observation, action = self.steps.observations.shape[1], self.steps.actions.shape[1]
        layers = {name: values.shape[1] for name, values in self.activations.items()}
        return {"observation": observation, "action": action} | layers

    def take(self, which: NDArray[np.int64]) -> "Sample":
        """A copy of the steps at these places."""
        where = torch.from_numpy(which)
        picked = {n: v[where.to(v.device)] for n, v in self.activations.items()}
        return Sample(self.steps.take(which), picked)

    def thinned(self, most: int) -> "Sample":
        """At most ``most`` steps of one episode, evenly spread over it."""
        count = len(self.steps)
        return self if count <= most else self.take(evenly_spread(count, most))

    def thinned_in_each_episode(self, most: int) -> "Sample":
        """At most ``most`` steps of each episode, evenly spread over the episode."""
        numbers = self.steps.episode
        episodes, counts = np.unique(numbers, return_counts=True)
        if counts.max() <= most:
            return self
        kept = []
        for episode in episodes:
            own = np.flatnonzero(numbers == episode)
            kept.append(own[evenly_spread(len(own), most)] if len(own) > most else own)
        return self.take(np.sort(np.concatenate(kept)))

    def is_finite(self) -> bool:
        """Whether all observations, actions and activations are finite."""
        values = [torch.from_numpy(part) for part in (self.steps.observations, self.steps.actions)]
        return all(bool(v.isfinite().all()) for v in (*values, *self.activations.values()))

    def finite_activations(self) -> dict[str, Float[NDArray[np.float32], "N _"]]:
        """For each layer, the activations of those steps in which all of them are finite."""
        arrays = as_arrays(self.activations)
        return {name: values[np.isfinite(values).all(1)] for name, values in arrays.items()}


def as_arrays(activations: Mapping[str, Tensor]) -> dict[str, Float[NDArray[np.float32], "N _"]]:
    """The activations of each layer as an array."""
    return {name: values.cpu().numpy() for name, values in activations.items()}


def evenly_spread(count: int, most: int) -> NDArray[np.int64]:
    """``most`` of ``count`` places, evenly spread, the first and the last among them."""
    return np.linspace(0, count - 1, most).round().astype(np.int64)
