"""Deep Q-learning for choices (Mnih et al. 2015, Nature 518), double and with n-step returns.

Double: van Hasselt, Guez and Silver 2016, arXiv 1509.06461, equation 4. N-step returns as in
Hessel et al. 2018, arXiv 1710.02298, section "Multi-step learning".
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.protocols import Draws, Metrics, Phase
from jsrl.core.ranges import at_least
from jsrl.core.streams import Streams
from jsrl.core.transitions import TransitionBatch
from jsrl.learners.augmentation import RandomShifts
from jsrl.learners.bootstrap import Bootstrap, BootstrapsByRule
from jsrl.learners.common import SeedOptimiser, copy_seeds
from jsrl.learners.losses import bootstrapped_target, huber_loss
from jsrl.learners.options import LearnerInputs, NStepOptions, learners
from jsrl.networks.epsilon_greedy import EpsilonGreedyPolicy
from jsrl.networks.layers import INITIALISATIONS


@dataclass
class DQNOptions(NStepOptions):
    """Of ``learner=dqn``, for environments that take one choice a step."""

    # Whether the network chooses the action of which the target says the value.
    double: bool = True
    # Updates from one copy of the network to the target to the next.
    target_interval: int = 200
    # Share by which the target follows at each of them; 1 is a copy.
    target_rate: float = 1.0
    # Probability of a random action at the beginning of training.
    initial_epsilon: float = 1.0
    # Probability of a random action at the end.
    final_epsilon: float = 0.05
    # Steps of each seed after which that probability has arrived at its end.
    exploration_steps: int = 10_000

    networks = ("critic",)
    acts_by = ("discrete",)

    def check(self) -> None:
        super().check()
        at_least("learner.target_interval", self.target_interval, 1)
        at_least("learner.exploration_steps", self.exploration_steps, 0)
        if not 0 <= self.final_epsilon <= self.initial_epsilon <= 1:
            raise UserError(
                f"learner.initial_epsilon={self.initial_epsilon} and "
                f"learner.final_epsilon={self.final_epsilon} must be probabilities, of which the "
                "first is not the smaller one"
            )


@learners.register("dqn", DQNOptions)
class DQN(BootstrapsByRule):
    """Deep Q-learning for S seeds at once.

    Args:
        options: see ``DQNOptions``.
        inputs: what every learner gets.
    """

    def __init__(self, options: DQNOptions, inputs: LearnerInputs) -> None:
        self.options = options
        self.needs = options.needs(("critic",))
        self.shifts = RandomShifts(options, inputs)
        self.bootstrap = Bootstrap(options.batch_size, inputs.device)
        layers, seeds = inputs.layers.critic, len(inputs.streams)
        self.network = EpsilonGreedyPolicy(
            seeds,
            inputs.observation.size,
            inputs.actions.size,
            options.hidden,
            layers.activation,
            layers.layer_norm,
            normalise_observations=options.normalise_observations,
            images=inputs.observation.image_shapes,
            encoder=options.encoder,
            epsilon=(options.initial_epsilon, options.final_epsilon),
        )
        streams = inputs.streams.child("initialisation")
        self.network.mlp.initialise(INITIALISATIONS[options.initialisation], streams, "critic")
        self.network.observation_encoder.initialise(streams, "critic_encoder")
        self.network.set_normaliser(inputs.observation_mean, inputs.observation_std)
        self.network.to(inputs.device)
        self.target = copy.deepcopy(self.network).requires_grad_(False)
        parameters = list(self.network.parameters())
        self.optimiser = SeedOptimiser({"critic": parameters}, options.learning_rate, seeds)
        self.updates = 0

    def draws(self, streams: Streams) -> Draws:
        """Shifts of images, if any, and what a rule draws by that chooses the target's actions."""
        return self.shifts.draws(streams) | self.bootstrap.draws(streams)

    def start_phase(self, phase: Phase, updates: int) -> None:
        """Online learning begins with the largest probability of a random action."""
        if phase is Phase.ONLINE:
            self.network.explore_for(self.options.exploration_steps)

    def update(self, batch: TransitionBatch, draws: Draws) -> Metrics:
        """One gradient step on the Huber loss, and the target's step where it is due."""
        batch = self.shifts.apply(batch, draws)
        target = self._target(batch, draws)
        q = chosen(self.network(self.network.encode(batch.observation)), batch.action)
        loss = huber_loss(q, target)
        self.optimiser.prepare("critic")
        self.optimiser.descend(loss, "critic")
        self.updates += 1
        if self.updates % self.options.target_interval == 0:
            self._follow()
        return {"loss/critic": loss.detach(), "value/q": q.detach().mean(-1)}

    def policy(self) -> EpsilonGreedyPolicy:
        """The policy being learnt."""
        return self.network

    @torch.no_grad()
    def predict(
        self, observation: Observation, action: Int[Tensor, "S N"]
    ) -> dict[str, Float[Tensor, "S N"]]:
        """The value of the best action in each state, and that of the action given."""
        q: Tensor = self.network(self.network.encode(observation))
        return {"value": q.amax(-1), "critic": chosen(q, action)}

    @torch.no_grad()
    def target_values(
        self, observation: Observation, action: Int[Tensor, "S N"]
    ) -> Float[Tensor, "S 1 N"]:
        """The value of the action given, by the target network."""
        q: Tensor = self.target(self.target.encode(observation))
        return chosen(q, action).unsqueeze(1)

    def state_dict(self) -> dict[str, Any]:
        """The network with its ε, the target, the optimiser and the number of updates."""
        return {
            "network": self.network.state_dict(),
            "target": self.target.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "updates": self.updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where ``state_dict`` was taken."""
        self.network.load_state_dict(state["network"])
        self.target.load_state_dict(state["target"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.updates = state["updates"]

    @property
    def alive(self) -> Bool[Tensor, " S"]:
        """False for seeds that were frozen because their loss was not finite."""
        return self.optimiser.alive

    def start_from(self, state: dict[str, Any], rows: Sequence[int], *, only_actor: bool) -> None:
        """Copy the network of another DQN's state to the network and the target.

        The network is actor and critic in one, so that ``only_actor`` changes nothing.
        """
        copy_seeds(self.network, state.get("network", {}), rows)
        copy_seeds(self.target, state.get("network", {}), rows)

    @torch.no_grad()
    def _target(self, batch: TransitionBatch, draws: Draws) -> Float[Tensor, "S B"]:
        """r + discount·Q'(s', a'), where a' is the best action by Q if double, or else by Q'.

        A rule of who acts may put the guide's choice in its place.
        """
        o, after = self.options, batch.next_observation
        q: Tensor = self.target(self.target.encode(after))
        own = self.network.mode(after) if o.double else q.argmax(-1)
        best, _ = self.bootstrap.choose(batch, own, draws)
        reward = o.reward_scale * batch.reward + o.reward_shift
        return bootstrapped_target(reward, batch.discount, chosen(q, best))

    @torch.no_grad()
    def _follow(self) -> None:
        for own, source in zip(self.target.parameters(), self.network.parameters(), strict=True):
            own.lerp_(source, self.options.target_rate)


def chosen(q: Float[Tensor, "S B n"], action: Int[Tensor, "S B"]) -> Float[Tensor, "S B"]:
    """The value of one action in each state."""
    return q.gather(-1, action.unsqueeze(-1)).squeeze(-1)
