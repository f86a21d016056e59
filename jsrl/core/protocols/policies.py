"""What a policy has to offer, and abilities that only some have.

Shapes: S seeds, E environments of a seed, B transitions of a minibatch, O observation size,
A action size.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self, runtime_checkable

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from jsrl.core.observations import Observation
from jsrl.core.streams import Streams

PlainValue = None | bool | int | float | str | Sequence["PlainValue"] | Mapping[str, "PlainValue"]
"""What a checkpoint may hold beside tensors."""


@runtime_checkable
class Policy(Protocol):
    """Anything that acts for S seeds."""

    def act(self, obs: Observation, streams: Streams | None) -> Shaped[Tensor, "S E *A"]:
        """Actions for observations ``[S, E]``; without ``streams``, the mode.

        Real actions are float32 ``[S, E, A]`` in [-1, 1]; choices are int64 ``[S, E]``.
        """
        ...


@runtime_checkable
class SavablePolicy(Policy, Protocol):
    """A policy that a checkpoint keeps, and from which the same policy can be made again.

    Its class is registered by ``jsrl.networks.seed_policy.register_policy`` and takes the described
    arguments as keywords. ``SeedPolicy`` of that file has everything but ``act``.
    """

    num_seeds: int
    """S."""

    observation_size: int
    """O, the number of columns of the vector that it is given."""

    action_size: int
    """A, or the number of choices."""

    def describe(self) -> dict[str, Any]:
        """``class``, the registered name, and ``arguments``, plain values by keyword.

        One of the arguments is ``num_seeds``.
        """
        ...

    def select(self, index: int | Sequence[int]) -> Self:
        """A frozen copy for one seed alone (S = 1), or for the seeds at these indices in order."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Tensors by name, as ``torch.nn.Module`` has it."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Take over what ``state_dict`` gave."""
        ...

    def to(self, device: torch.device) -> Self:
        """This policy, on another device."""
        ...


@runtime_checkable
class FixesLastColumns(SavablePolicy, Protocol):
    """A policy that can be kept with fixed numbers in its last columns.

    What it is given then lacks these columns.
    """

    def describe_with_last(self, numbers: Sequence[float]) -> dict[str, Any]:
        """``describe`` of the policy that takes these numbers for its last columns.

        Its ``state_dict`` is that of this policy.
        """
        ...


@runtime_checkable
class AppendsNumbers(Protocol):
    """A policy that puts numbers behind the vector that it is given."""

    appended: tuple[float, ...]
    """The numbers; there may be none."""


@runtime_checkable
class DensityPolicy(Protocol):
    """A policy that says how probable actions are, and how spread it is."""

    def encode(self, obs: Observation) -> Float[Tensor, "S B F"]:
        """The features that the other method takes."""
        ...

    def log_prob_and_entropy(
        self, features: Float[Tensor, "S B F"], actions: Shaped[Tensor, "S B *A"]
    ) -> tuple[Float[Tensor, "S B"], Float[Tensor, "S B"]]:
        """Log density, or probability, of ``actions``, and the entropy, both in nats."""
        ...


@runtime_checkable
class SamplingPolicy(Protocol):
    """A policy whose samples may be drawn for some seeds only, from draws of a given name."""

    def sample(
        self,
        obs: Observation,
        streams: Streams,
        name: str,
        where: Sequence[bool] | None = None,
    ) -> Shaped[Tensor, "S E *A"]:
        """Sampled actions; a seed outside of ``where`` draws nothing from its stream."""
        ...


@runtime_checkable
class ExportablePolicy(Protocol):
    """A policy whose mode is a module that can be written to a file."""

    def mode_module(self, index: int) -> nn.Module:
        """The mode of seed ``index``: float32 rows ``[n, O]`` to actions ``[n, A]`` in [-1, 1].

        A policy that chooses gives int64 ``[n]``. One that sees images takes them as further
        arguments, uint8 ``[n, C, H, W]``. The module is a copy on the CPU, without gradients, and
        has no axis of seeds.
        """
        ...


@runtime_checkable
class HasLayersWithoutSeeds(Protocol):
    """A policy whose answers come from layers that follow one another."""

    def layers_without_seeds(self, index: int) -> dict[str, nn.Module]:
        """The layers of seed ``index`` by name, in order, without an axis of seeds.

        They map rows ``[n, O]`` to actions without noise ``[n, A]``, in [-1, 1], or of a policy
        that chooses to what it says of each choice ``[n, K]``, of which the largest is chosen.
        They are copies on the CPU.
        """
        ...


@runtime_checkable
class SeesImages(Protocol):
    """A policy that knows the images that it is given, if any."""

    images: dict[str, tuple[int, ...]]
    """Channels, height and width of each by name."""


@runtime_checkable
class EncodesObservations(Protocol):
    """A policy whose ``forward`` takes features that it makes of an observation."""

    def encode(self, obs: Observation) -> Float[Tensor, "S B F"]:
        """The features. Without it, ``forward`` takes the vector of an observation."""
        ...


@runtime_checkable
class NormalisingPolicy(Protocol):
    """A policy that knows the mean and the spread of the observations it was trained on."""

    def normaliser(self) -> tuple[Float[Tensor, "*S O"], Float[Tensor, "*S O"]]:
        """The mean and the standard deviation, 0 and 1 where the policy does not normalise.

        They are ``[O]``, or ``[S, 1, O]`` where each seed has its own.
        """
        ...


@runtime_checkable
class FreezesSeeds(Protocol):
    """A learner that freezes a seed whose loss was not finite, and says so."""

    @property
    def alive(self) -> Bool[Tensor, " S"]:
        """False for seeds that were frozen."""
        ...
