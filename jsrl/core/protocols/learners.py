"""What a learner has to offer, what it takes, and abilities that only some have.

Shapes: S seeds, E environments of a seed, B transitions of a minibatch, O observation size,
A action size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float, Shaped
from torch import Tensor

from jsrl.core.arbitration import Critics, HasTarget
from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.protocols.policies import Policy
from jsrl.core.returns import ReturnsToGo
from jsrl.core.rollouts import ExploringStep, RolloutBatch, RolloutNeeds
from jsrl.core.streams import Streams
from jsrl.core.transitions import TransitionBatch

Metrics = dict[str, Tensor]
"""Named values of one update, each ``[S]``, on the learner's device."""


Draws = dict[str, Tensor]
"""The random tensors that one update needs, drawn outside of it, each with a leading axis S."""


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
class HasDifferentiableValues(Protocol):
    """A learner whose critics an attacker may follow to the least valuable action."""

    def differentiable_values(
        self, observation: Observation, action: Float[Tensor, "S N A"]
    ) -> Float[Tensor, "S K N"]:
        """Q(s, a) of each of the K critics, with gradients."""
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
class CountsCritics(Protocol):
    """Options of a learner that say how many critics it has."""

    critics: int


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
