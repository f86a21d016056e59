"""What a policy, guide, learner, curriculum, buffer or observer has to offer.

An ability that only some of them have is a Protocol of its own, at the end of this file; those of
objects that come from users and other libraries stand in ``foreign``. Whoever needs one asks by
``isinstance``.

Shapes: S seeds, E environments of a seed, B transitions of a minibatch, O observation size,
A action size.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from jsrl.core.arbitration import Critics, HasTarget, Signals
from jsrl.core.episodes import Episode
from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.returns import ReturnsToGo
from jsrl.core.rollouts import ExploringStep, RolloutBatch, RolloutNeeds
from jsrl.core.streams import Streams
from jsrl.core.transitions import Moment, TransitionBatch

Metrics = dict[str, Tensor]
"""Named values of one update, each ``[S]``, on the learner's device."""


Draws = dict[str, Tensor]
"""The random tensors that one update needs, drawn outside of it, each with a leading axis S."""


PlainValue = None | bool | int | float | str | Sequence["PlainValue"] | Mapping[str, "PlainValue"]
"""What a checkpoint may hold beside tensors."""


class Phase(Enum):
    """What a learner is doing: schedules and the parts that are trained follow from it."""

    OFFLINE = "offline"
    CRITIC_WARMUP = "critic_warmup"
    ONLINE = "online"


class Consumes(Enum):
    """What a learner's update takes; one that takes rollouts is an ``OnPolicyLearner``."""

    TRANSITIONS = "single transitions"
    N_STEP = "n-step transitions"
    ROLLOUTS = "whole rollouts with log-probabilities"


@dataclass(frozen=True)
class DataNeeds:
    """What data a learner's updates take, and how many updates there are a step.

    Args:
        data: single transitions, n-step transitions or whole rollouts.
        batches: for one environment step the minibatches in their order, each with the names of
            the networks that it trains: twenty critic updates and then one of the actor are
            ``(("critic",),) * 20 + (("actor",),)``.
        n_step: n, of the returns; 1 unless ``data`` is n-step transitions.
        discount: γ, of a step, in [0, 1]; ``TransitionBatch.discount`` is made of it.
        returns_to_go: how ``TransitionBatch.return_to_go`` is worked out; None leaves it out.

    Raises:
        UserError: if n does not go with the data, or a minibatch trains nothing.
    """

    data: Consumes
    batches: tuple[tuple[str, ...], ...]
    n_step: int = 1
    discount: float = 0.99
    returns_to_go: ReturnsToGo | None = None

    def __post_init__(self) -> None:
        if self.n_step < 1:
            raise UserError(f"n_step={self.n_step} must be at least 1")
        if self.n_step > 1 and self.data is not Consumes.N_STEP:
            raise UserError(
                f"n_step={self.n_step} is for learners from n-step transitions, and this learner "
                f"takes {self.data.value}; leave n_step at 1"
            )
        if not 0 <= self.discount <= 1:
            raise UserError(f"discount={self.discount} of a learner must lie in [0, 1]")
        if not self.batches or not all(self.batches):
            raise UserError(
                f"batches={self.batches} must name at least one minibatch, and for each the "
                "networks that it trains"
            )

    def updates(self, network: str) -> int:
        """How many of a step's minibatches train the network of this name."""
        return sum(network in names for names in self.batches)


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


class Guide(Protocol):
    """A frozen policy that acts for the first steps of an episode."""

    fingerprint: str
    """A hash of what the guide is, stored in every checkpoint."""

    def act(
        self, obs: Observation, streams: Streams | None, mask: Bool[Tensor, "S E"]
    ) -> Shaped[Tensor, "S E *A"]:
        """Actions as a policy gives them; only rows in ``mask`` are looked at, the others are 0.

        Raises:
            UserError: if the guide returns NaN, a wrong shape, or an action outside the space.
        """
        ...

    def reset(self, mask: Bool[Tensor, "S E"]) -> None:
        """New episodes begin in the rows of ``mask``."""
        ...


class Learner(Protocol):
    """A learning algorithm for S seeds at once."""

    needs: DataNeeds

    def draws(self, streams: Streams) -> Draws:
        """Draw the random tensors that the next update needs."""
        ...

    def update(self, batch: Any, draws: Draws) -> Metrics:
        """One gradient step for all seeds; the metrics stay on the device.

        Args:
            batch: what ``needs.data`` says: a ``TransitionBatch``, or a ``RolloutBatch``.
            draws: from the method of this name.
        """
        ...

    def start_phase(self, phase: Phase, updates: int) -> None:
        """Begin a phase of ``updates`` updates: schedules restart, none runs on from before."""
        ...

    def policy(self) -> Policy:
        """The policy being learnt; it follows later updates."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Networks, targets, optimisers, schedules and clocks: tensors and plain values."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Curriculum(Protocol):
    """How long the guide acts. A pure value of one seed: same inputs, same steps."""

    @property
    def stage(self) -> int: ...

    def guide_steps(self, streams: Streams) -> int:
        """The number h of guide steps of one episode, drawn at its start and kept to its end."""
        ...

    def advance(self, evaluation: float, step: int) -> Self:
        """The curriculum after an evaluation at environment step ``step``."""
        ...


class StepObserver(Protocol):
    """Watches policies while they act, and changes nothing."""

    def begin_step(self) -> AbstractContextManager[Any] | None:
        """Called before every step: a context to act in, or None if the step is not watched."""
        ...

    def acted(self, moment: Moment) -> None:
        """Called after a step that is watched, with what was seen and done in it."""
        ...

    def restart(self) -> None:
        """Called when episodes are numbered from 0 again."""
        ...


@runtime_checkable
class BeginsEpisodes(Protocol):
    """A guide that goes by which episode it is, such as one that chooses anew for each."""

    def begin(
        self,
        mask: Bool[Tensor, "S E"],
        episodes: Int[np.ndarray, "S E"],
        seeds: Int[np.ndarray, "S E"],
    ) -> None:
        """Called in place of ``Guide.reset``, also for episodes that are replayed on resuming.

        Args:
            mask: where episodes begin.
            episodes: their numbers, unique within a seed.
            seeds: of the environments' resets. They follow from seed, environment and episode
                alone: what is drawn once an episode is drawn under this key.
        """
        ...


@runtime_checkable
class HearsOfEnds(Protocol):
    """A guide that is told how the training episodes that it began have ended."""

    def ended(
        self,
        mask: Bool[Tensor, "S E"],
        returns: Float[np.ndarray, "S E"],
        successes: Float[np.ndarray, "S E"],
    ) -> None:
        """Episodes in which the guide acted ended where ``mask``; NaN is no known success."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What it has heard, and what it has drawn for the episodes under way."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state_dict`` was taken, before the episodes under way are replayed."""
        ...


@runtime_checkable
class HasMembers(Protocol):
    """A guide that is several, one of which acts in each episode."""

    def acting(self) -> Int[np.ndarray, "S E"]:
        """The index of the one that is in charge of each episode under way."""
        ...


@runtime_checkable
class SeesAgain(Protocol):
    """A guide with memory that need not act in order to be reminded, since a part of it has one."""

    def see_again(self, obs: Observation, mask: Bool[Tensor, "S E"]) -> None:
        """Called in place of ``act`` in episodes that are replayed on resuming."""
        ...


@runtime_checkable
class WatchesFrames(Protocol):
    """A guide that may have to see pictures of the environments, such as a person."""

    needs_frames: bool

    def show(self, frames: Sequence[Any]) -> None:
        """What ``render`` gives of each environment now; called before ``act``."""
        ...


@runtime_checkable
class TakesOver(Protocol):
    """A guide that asks to act and gives back by itself, such as a person."""

    def listen(self, signals: Signals) -> None:
        """By what it asks from now on. Called once, before the first step.

        Raises:
            UserError: if it cannot ask by that.
        """
        ...

    def takeover(self) -> Int[Tensor, "S E"]:
        """1 where it asks to act from now on, -1 where the explorer is to act again, else 0."""
        ...


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


@runtime_checkable
class SaysItsNeeds(Protocol):
    """What every learner has to say, and a user's own may have forgotten to."""

    needs: DataNeeds


@runtime_checkable
class TrainsSome(Protocol):
    """A learner that takes several minibatches an update, and says for each what it trains."""

    needs: DataNeeds

    def train(self, networks: Sequence[str], batch: TransitionBatch, draws: Draws) -> Metrics:
        """One gradient step of the networks of these names; the metrics stay on the device."""
        ...


@runtime_checkable
class OnPolicyLearner(Protocol):
    """A learner from whole rollouts of its own policy, which says how it wants to have them.

    Steps in which a guide acted are in its rollouts, but weigh nothing: see ``RolloutBatch``.
    """

    needs: DataNeeds

    rollouts: RolloutNeeds

    def explore(self, obs: Observation, streams: Streams) -> ExploringStep:
        """Sampled actions for observations ``[S, E]``, their log-probabilities, and V."""
        ...

    def values(self, obs: Observation) -> Float[Tensor, "S E"]:
        """V of observations."""
        ...

    def draws(self, streams: Streams) -> Draws:
        """Draw the random tensors that the next update needs."""
        ...

    def update(self, batch: RolloutBatch, draws: Draws) -> Metrics:
        """One gradient step for the seeds that have a step of their own policy in the minibatch.

        The other seeds stay as they are, and their metrics are NaN.
        """
        ...


@runtime_checkable
class LooksBackOnRollouts(Protocol):
    """An ``OnPolicyLearner`` that does something once the updates from a rollout are done."""

    def after_rollout(self, observation: Observation) -> None:
        """Take all observations of the rollout, ``[S, T * E]``, also those of a guide's steps.

        The next step of the environments comes after it.
        """
        ...


@runtime_checkable
class StartsFromState(Protocol):
    """A learner that can begin with networks of another one: ``start=warm`` and ``start=naive``."""

    def start_from(self, state: dict[str, Any], rows: Sequence[int], *, only_actor: bool) -> None:
        """Copy the networks of the seeds at ``rows`` of the other learner's ``state_dict``."""
        ...


@runtime_checkable
class HasTwinValues(Protocol):
    """A learner with two critics, whose disagreement the monitor shows."""

    def twin_values(
        self, observation: Observation, action: Shaped[Tensor, "S N *A"]
    ) -> Float[Tensor, "S K N"]:
        """Q(s, a) of each of the K critics."""
        ...


@runtime_checkable
class PredictsValues(Protocol):
    """A learner that can say what its networks predict for states and actions."""

    def predict(
        self, observation: Observation, action: Shaped[Tensor, "S N *A"]
    ) -> dict[str, Float[Tensor, "S N"]]:
        """Predictions by name, such as ``value`` and ``critic``."""
        ...


@runtime_checkable
class HasTargetValues(Protocol):
    """A learner with target critics, by which a rule of who acts may compare actions."""

    def target_values(
        self, observation: Observation, action: Shaped[Tensor, "S N *A"]
    ) -> Float[Tensor, "S K N"]:
        """Q(s, a) of each of the K target critics."""
        ...


@runtime_checkable
class BootstrapsFromActions(Protocol):
    """A learner whose targets take the value of an action in the successor.

    Which one may be the choice of a rule of who acts, see ``HasTarget``: then its minibatches have
    ``next_guide``.
    """

    def bootstrap_by(self, rule: HasTarget, critics: Critics) -> None:
        """Let the rule choose between the guide's action and the learner's own from now on."""
        ...


@runtime_checkable
class ValuesStates(Protocol):
    """A learner that says how good states are, whatever is done in them."""

    def values(self, obs: Observation) -> Float[Tensor, "S N"]:
        """V of observations."""
        ...


@runtime_checkable
class Settles(Protocol):
    """A curriculum of which it is known when no evaluation changes its guide steps any more."""

    @property
    def is_settled(self) -> bool:
        """Whether they stay what they are, whatever evaluations there are."""
        ...


@runtime_checkable
class LearnsFromEpisodes(Protocol):
    """A curriculum that goes by how training episodes end, and so needs no evaluations."""

    def observe(self, episode: Episode) -> Self:
        """The curriculum after a training episode of its seed."""
        ...
