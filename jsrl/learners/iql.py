"""Implicit Q-Learning (Kostrikov, Nair and Levine 2021, arXiv 2110.06169)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from jsrl.core.errors import UserError
from jsrl.core.protocols import Consumes, Draws, Metrics, Phase
from jsrl.core.ranges import one_of
from jsrl.core.streams import Streams
from jsrl.core.transitions import Batch, TransitionLayout
from jsrl.learners.common import (
    SeedOptimiser,
    advantage_statistics,
    build_actor,
    compiled,
    copy_seeds,
    dropout_masks,
)
from jsrl.learners.losses import (
    advantage_weights,
    bootstrapped_target,
    expectile_loss,
    squared_td_error,
    weighted_log_likelihood_loss,
)
from jsrl.learners.options import ActorOptions, LearnerInputs, learners
from jsrl.networks.layers import INITIALISATIONS, SeedMLP
from jsrl.networks.policies import GaussianPolicy


@dataclass
class IQLOptions(ActorOptions):
    """The choices that published IQL implementations differ in; the defaults are the official ones.

    Sources: Kostrikov et al. 2021, section 4 and appendix B; the presets in ``configs/learner``.
    """

    # Discount of future rewards, in [0, 1].
    discount: float = 0.99
    # Share by which the target critic follows the critic in an update, in (0, 1].
    target_rate: float = 0.005
    # Of the values' regression, in (0, 1): near 1 is the best action in the data.
    expectile: float = 0.9
    # Inverse temperature of the advantage weights: 0 is behaviour cloning.
    temperature: float = 10.0
    # At which the advantage weights are clipped.
    largest_weight: float = 100.0
    # The learner learns from reward_scale·reward + reward_shift.
    reward_scale: float = 1.0
    # See reward_scale.
    reward_shift: float = 0.0
    # Whether the value is updated before the actor and the critic.
    value_first: bool = True
    # The losses of the two critics: their sum or their mean.
    critic_reduction: str = "sum"
    # Whether updates are compiled by torch.compile: faster after a minute or two.
    compile: bool = False

    neutral = (("compile", False),)

    def check(self) -> None:
        super().check()
        one_of("learner.critic_reduction", self.critic_reduction, ("sum", "mean"))
        if not 0 < self.expectile < 1:
            raise UserError(f"learner.expectile={self.expectile} must lie between 0 and 1")
        if not 0 <= self.discount <= 1:
            raise UserError(f"learner.discount={self.discount} must lie in [0, 1]")
        if not 0 < self.target_rate <= 1:
            raise UserError(f"learner.target_rate={self.target_rate} must lie in (0, 1]")

    def reward_transform(self) -> tuple[float, float]:
        return self.reward_scale, self.reward_shift


class IQLNetworks(nn.Module):
    """Everything that IQL trains, and the target that follows it."""

    def __init__(self, options: IQLOptions, inputs: LearnerInputs) -> None:
        super().__init__()
        seeds, layers, hidden = len(inputs.streams), inputs.layers, options.hidden
        size, critic_input = inputs.observation_size, inputs.observation_size + inputs.action_size
        critic = (critic_input, hidden, 1, layers.critic.activation, layers.critic.layer_norm)
        self.actor = build_actor(options, inputs)
        self.critic = SeedMLP((seeds, 2), *critic)
        self.target_critic = SeedMLP((seeds, 2), *critic)
        self.value = SeedMLP(
            (seeds,), size, hidden, 1, layers.value.activation, layers.value.layer_norm
        )

    def initialise(self, scheme: str, streams: Streams) -> None:
        """Draw all parameters; the target begins as a copy of the critic."""
        initialisation = INITIALISATIONS[scheme]
        self.actor.mlp.initialise(initialisation, streams, "actor")
        self.critic.initialise(initialisation, streams, "critic")
        self.value.initialise(initialisation, streams, "value")
        self.target_critic.load_state_dict(self.critic.state_dict())
        self.target_critic.requires_grad_(False)


@learners.register("iql", IQLOptions)
class IQL:
    """IQL for S seeds at once.

    Args:
        options: see ``IQLOptions``.
        inputs: what every learner gets.
    """

    consumes = Consumes.TRANSITIONS

    def __init__(self, options: IQLOptions, inputs: LearnerInputs) -> None:
        self.options = options
        self.num_seeds = len(inputs.streams)
        self.device = inputs.device
        self.networks = IQLNetworks(options, inputs)
        self.networks.initialise(options.initialisation, inputs.streams.child("initialisation"))
        self.networks.actor.set_normaliser(inputs.observation_mean, inputs.observation_std)
        self.networks.to(self.device)
        self.optimiser = SeedOptimiser(
            {
                "value": list(self.networks.value.parameters()),
                "critic": list(self.networks.critic.parameters()),
                "actor": list(self.networks.actor.parameters()),
            },
            options.learning_rate,
            self.num_seeds,
        )
        self._descend = compiled(self.descend) if options.compile else self.descend
        self._targets: list[Tensor] = list(self.networks.target_critic.parameters())
        self._sources: list[Tensor] = list(self.networks.critic.parameters())
        self._trains_actor = True

    def draws(self, streams: Streams) -> Draws:
        """Dropout masks ``[S, B, width]``, one a hidden layer; nothing without dropout."""
        o = self.options
        return dropout_masks(streams, o.hidden, o.batch_size, o.dropout, self.device)

    def start_phase(self, phase: Phase, updates: int) -> None:
        """The actor's cosine decay belongs to the offline phase alone; warm-up leaves it alone."""
        decays = phase is Phase.OFFLINE and self.options.actor_schedule == "cosine"
        self.optimiser.start_schedule("actor", updates if decays else 0)
        self._trains_actor = phase is not Phase.CRITIC_WARMUP

    def update(self, batch: Batch, draws: Draws) -> Metrics:
        """One gradient step of every network, in the order that the options name."""
        trained = ("critic", "actor") if self._trains_actor else ("critic",)
        self.optimiser.prepare("value", *trained)
        return self._descend(batch.rows, batch.layout, list(draws.values()), trained)

    def descend(
        self,
        rows: Tensor,
        layout: TransitionLayout,
        dropout: Sequence[Tensor],
        trained: Sequence[str],
    ) -> Metrics:
        """All of an update but the clocks: tensors in, tensors out, compiled as one."""
        if self.options.value_first:
            metrics, target_q = self.value_losses(rows, layout)
            self.optimiser.descend(metrics["loss/value"], "value")
            metrics |= self.actor_critic_losses(rows, layout, target_q, dropout)
            self.optimiser.descend(metrics["loss/critic"] + metrics["loss/actor"], *trained)
        else:
            metrics = self.joint_losses(rows, layout, dropout)
            losses = metrics["loss/value"] + metrics["loss/critic"] + metrics["loss/actor"]
            self.optimiser.descend(losses, "value", *trained)
        with torch.no_grad():
            torch._foreach_lerp_(self._targets, self._sources, self.options.target_rate)
        return {name: value.detach() for name, value in metrics.items()}

    def value_losses(
        self, rows: Tensor, layout: TransitionLayout
    ) -> tuple[Metrics, Float[Tensor, "S B"]]:
        """The value loss, and min Q of the target critic, from which it comes."""
        obs, obs_action, _ = self._inputs(Batch(rows, layout))
        target_q = self._target_q(obs_action)
        v = self.networks.value(obs)[..., 0]
        loss = expectile_loss(target_q - v, self.options.expectile)
        return {"loss/value": loss, "value/v": v.detach().mean(-1)}, target_q

    def actor_critic_losses(
        self,
        rows: Tensor,
        layout: TransitionLayout,
        target_q: Float[Tensor, "S B"],
        dropout: Sequence[Tensor],
    ) -> Metrics:
        """The losses of actor and critic, with V as it is now."""
        batch = Batch(rows, layout)
        obs, obs_action, next_obs = self._inputs(batch)
        with torch.no_grad():
            v = self.networks.value(obs)[..., 0]
            next_v = self.networks.value(next_obs)[..., 0]
        return self._critic_loss(batch, obs_action, next_v) | self._actor_loss(
            batch, target_q - v, dropout
        )

    def joint_losses(
        self, rows: Tensor, layout: TransitionLayout, dropout: Sequence[Tensor]
    ) -> Metrics:
        """The losses of value, critic and actor, all at the same parameters."""
        batch = Batch(rows, layout)
        obs, obs_action, next_obs = self._inputs(batch)
        target_q = self._target_q(obs_action)
        v = self.networks.value(obs)[..., 0]
        with torch.no_grad():
            next_v = self.networks.value(next_obs)[..., 0]
        return {
            "loss/value": expectile_loss(target_q - v, self.options.expectile),
            "value/v": v.detach().mean(-1),
            **self._critic_loss(batch, obs_action, next_v),
            **self._actor_loss(batch, target_q - v.detach(), dropout),
        }

    def policy(self) -> GaussianPolicy:
        return self.networks.actor

    def state_dict(self) -> dict[str, Any]:
        return {
            "networks": self.networks.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "trains_actor": self._trains_actor,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.networks.load_state_dict(state["networks"])
        self.optimiser.load_state_dict(state["optimiser"])
        self._trains_actor = state["trains_actor"]

    @torch.no_grad()
    def predict(
        self, observations: Float[Tensor, "S N O"], actions: Float[Tensor, "S N A"]
    ) -> dict[str, Float[Tensor, "S N"]]:
        """What the networks say of states and of actions in them: V(s), and the lower Q(s, a)."""
        obs = self.networks.actor.normalise(observations)
        q: Tensor = self.networks.critic(torch.cat([obs, actions], -1))
        v: Tensor = self.networks.value(obs)
        return {"value": v[..., 0], "critic": q.amin(1)[..., 0]}

    @torch.no_grad()
    def twin_values(
        self, observations: Float[Tensor, "S N O"], actions: Float[Tensor, "S N A"]
    ) -> Float[Tensor, "S K N"]:
        """Q(s, a) of each of the K critics."""
        obs = self.networks.actor.normalise(observations)
        q: Tensor = self.networks.critic(torch.cat([obs, actions], -1))
        return q[..., 0]

    @property
    def alive(self) -> Bool[Tensor, " S"]:
        """False for seeds that were frozen because their loss was not finite."""
        return self.optimiser.alive

    def start_from(self, state: dict[str, Any], rows: Sequence[int], *, only_actor: bool) -> None:
        """Copy the networks of another IQL's state, or its actor alone; the optimiser stays fresh.

        Args:
            state: from ``state_dict`` of a learner of the same sizes.
            rows: for each seed of this learner, its place among those of ``state``.
            only_actor: leave critic, target critic and value as they are (naive initialisation).
        """
        if only_actor:
            copy_seeds(self.networks.actor, state["networks"], rows, prefix="actor.")
        else:
            copy_seeds(self.networks, state["networks"], rows)

    def _inputs(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Observations, observations with actions, next observations, as the networks see them."""
        if not self.options.normalise_observations:
            return batch.observations, batch.observations_actions, batch.next_observations
        normalise = self.networks.actor.normalise
        obs = normalise(batch.observations)
        return obs, torch.cat([obs, batch.actions], -1), normalise(batch.next_observations)

    @torch.no_grad()
    def _target_q(self, obs_action: Float[Tensor, "S B OA"]) -> Float[Tensor, "S B"]:
        q: Tensor = self.networks.target_critic(obs_action)
        return q.amin(1)[..., 0]

    def _critic_loss(
        self, batch: Batch, obs_action: Tensor, next_v: Float[Tensor, "S B"]
    ) -> Metrics:
        o = self.options
        reward = o.reward_scale * batch.rewards + o.reward_shift
        target = bootstrapped_target(reward, batch.terminated, next_v, o.discount)
        q = self.networks.critic(obs_action)[..., 0]
        return {
            "loss/critic": squared_td_error(q, target, o.critic_reduction),
            "value/q": q.detach().mean((1, 2)),
        }

    def _actor_loss(
        self, batch: Batch, advantage: Float[Tensor, "S B"], dropout: Sequence[Tensor]
    ) -> Metrics:
        o = self.options
        weights = advantage_weights(advantage, o.temperature, o.largest_weight)
        metrics = advantage_statistics(advantage, weights)
        if not self._trains_actor:
            return metrics | {"loss/actor": torch.zeros_like(advantage[:, 0])}
        log_prob = self.networks.actor.log_prob(batch.observations, batch.actions, dropout)
        return metrics | {"loss/actor": weighted_log_likelihood_loss(log_prob, weights)}
