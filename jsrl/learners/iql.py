"""Implicit Q-Learning (Kostrikov, Nair and Levine 2021, arXiv 2110.06169)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from jsrl.activations import Activation
from jsrl.learners.common import (
    SeedOptimiser,
    advantage_statistics,
    build_actor,
    compiled,
    copy_seeds,
    dropout_masks,
)
from jsrl.losses import (
    advantage_weights,
    bootstrapped_target,
    expectile_loss,
    squared_td_error,
    weighted_log_likelihood_loss,
)
from jsrl.networks import INITIALISATIONS, GaussianPolicy, SeedMLP
from jsrl.seeding import Streams
from jsrl.types import Batch, Consumes, Draws, Metrics, Phase, TransitionLayout


@dataclass(frozen=True)
class IQLSettings:
    """The choices that published IQL implementations differ in; the defaults are the official ones.

    Args:
        hidden: sizes of the hidden layers of every network.
        activation: what follows each hidden layer.
        layer_norm: normalise hidden layers.
        critic: the same two for the critic and its target; None is the actor's.
        value: likewise for the value network.
        batch_size: B.
        learning_rate: of Adam, for every network.
        actor_schedule: ``cosine`` decays the actor's rate to 0 over the offline phase.
        discount: γ.
        target_rate: share of the critic that the target critic takes on in each update.
        expectile: τ of the value loss.
        temperature: β, by which advantages are multiplied before exp.
        largest_weight: bound on exp(β·advantage).
        dropout: share of the actor's hidden units left out in training.
        reward_scale: rewards are multiplied by this,
        reward_shift: and then this is added.
        initialisation: ``orthogonal``, ``pytorch`` or ``variance_scaling``.
        tanh_mean: squash the policy's mean.
        log_std_range: bounds of the log standard deviation.
        value_first: update V first and let actor and Q use the new V; else all at old parameters.
        critic_reduction: ``sum`` or ``mean`` of the two critics' squared errors.
        normalise_observations: by the dataset's mean and standard deviation.
        online_action_clip: the acting policy clips to ± this.
        compile: run the losses through ``torch.compile``.
    """

    hidden: Sequence[int] = (256, 256)
    activation: Activation = "relu"
    layer_norm: bool = False
    critic: tuple[Activation, bool] | None = None
    value: tuple[Activation, bool] | None = None
    batch_size: int = 256
    learning_rate: float = 3e-4
    actor_schedule: str = "cosine"
    discount: float = 0.99
    target_rate: float = 0.005
    expectile: float = 0.9
    temperature: float = 10.0
    largest_weight: float = 100.0
    dropout: float = 0.0
    reward_scale: float = 1.0
    reward_shift: float = -1.0
    initialisation: str = "orthogonal"
    tanh_mean: bool = True
    log_std_range: Sequence[float] = (-5.0, 2.0)
    value_first: bool = True
    critic_reduction: str = "sum"
    normalise_observations: bool = False
    online_action_clip: float = 1.0
    compile: bool = False


class IQLNetworks(nn.Module):
    """Everything that IQL trains, and the target that follows it."""

    def __init__(
        self, num_seeds: int, observation_size: int, action_size: int, settings: IQLSettings
    ) -> None:
        super().__init__()
        actor = (settings.activation, settings.layer_norm)
        critic = (settings.hidden, 1, *(settings.critic or actor))
        value = (settings.hidden, 1, *(settings.value or actor))
        critic_input = observation_size + action_size
        self.actor = build_actor(num_seeds, observation_size, action_size, settings)
        self.critic = SeedMLP((num_seeds, 2), critic_input, *critic)
        self.target_critic = SeedMLP((num_seeds, 2), critic_input, *critic)
        self.value = SeedMLP((num_seeds,), observation_size, *value)

    def initialise(self, scheme: str, streams: Streams) -> None:
        """Draw all parameters; the target begins as a copy of the critic."""
        initialisation = INITIALISATIONS[scheme]
        self.actor.mlp.initialise(initialisation, streams, "actor")
        self.critic.initialise(initialisation, streams, "critic")
        self.value.initialise(initialisation, streams, "value")
        self.target_critic.load_state_dict(self.critic.state_dict())
        self.target_critic.requires_grad_(False)


class IQL:
    """IQL for S seeds at once.

    Args:
        streams: the seeds; initial weights come from their stream ``initialisation``.
        observation_size: O.
        action_size: A.
        settings: see ``IQLSettings``.
        device: where to train.
        observation_mean: for ``normalise_observations``, ``[O]``.
        observation_std: likewise.
    """

    consumes = Consumes.TRANSITIONS

    def __init__(
        self,
        streams: Streams,
        observation_size: int,
        action_size: int,
        settings: IQLSettings,
        device: torch.device,
        observation_mean: Float[Tensor, " O"] | None = None,
        observation_std: Float[Tensor, " O"] | None = None,
    ) -> None:
        self.settings = settings
        self.num_seeds = len(streams)
        self.device = device
        self.networks = IQLNetworks(len(streams), observation_size, action_size, settings)
        self.networks.initialise(settings.initialisation, streams.child("initialisation"))
        self.networks.actor.set_normaliser(observation_mean, observation_std)
        self.networks.to(device)
        self.optimiser = SeedOptimiser(
            {
                "value": list(self.networks.value.parameters()),
                "critic": list(self.networks.critic.parameters()),
                "actor": list(self.networks.actor.parameters()),
            },
            settings.learning_rate,
            self.num_seeds,
        )
        self._descend = compiled(self.descend) if settings.compile else self.descend
        self._targets: list[Tensor] = list(self.networks.target_critic.parameters())
        self._sources: list[Tensor] = list(self.networks.critic.parameters())
        self._trains_actor = True

    def draws(self, streams: Streams) -> Draws:
        """Dropout masks ``[S, B, width]``, one a hidden layer; nothing without dropout."""
        s = self.settings
        return dropout_masks(streams, s.hidden, s.batch_size, s.dropout, self.device)

    def start_phase(self, phase: Phase, updates: int) -> None:
        """The actor's cosine decay belongs to the offline phase alone; warm-up leaves it alone."""
        decays = phase is Phase.OFFLINE and self.settings.actor_schedule == "cosine"
        self.optimiser.start_schedule("actor", updates if decays else 0)
        self._trains_actor = phase is not Phase.CRITIC_WARMUP

    def update(self, batch: Batch, draws: Draws) -> Metrics:
        """One gradient step of every network, in the order that the settings name."""
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
        if self.settings.value_first:
            metrics, target_q = self.value_losses(rows, layout)
            self.optimiser.descend(metrics["loss/value"], "value")
            metrics |= self.actor_critic_losses(rows, layout, target_q, dropout)
            self.optimiser.descend(metrics["loss/critic"] + metrics["loss/actor"], *trained)
        else:
            metrics = self.joint_losses(rows, layout, dropout)
            losses = metrics["loss/value"] + metrics["loss/critic"] + metrics["loss/actor"]
            self.optimiser.descend(losses, "value", *trained)
        with torch.no_grad():
            torch._foreach_lerp_(self._targets, self._sources, self.settings.target_rate)
        return {name: value.detach() for name, value in metrics.items()}

    def value_losses(
        self, rows: Tensor, layout: TransitionLayout
    ) -> tuple[Metrics, Float[Tensor, "S B"]]:
        """The value loss, and min Q of the target critic, from which it comes."""
        obs, obs_action, _ = self._inputs(Batch(rows, layout))
        target_q = self._target_q(obs_action)
        v = self.networks.value(obs)[..., 0]
        loss = expectile_loss(target_q - v, self.settings.expectile)
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
            "loss/value": expectile_loss(target_q - v, self.settings.expectile),
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
        if not self.settings.normalise_observations:
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
        s = self.settings
        reward = s.reward_scale * batch.rewards + s.reward_shift
        target = bootstrapped_target(reward, batch.terminated, next_v, s.discount)
        q = self.networks.critic(obs_action)[..., 0]
        return {
            "loss/critic": squared_td_error(q, target, s.critic_reduction),
            "value/q": q.detach().mean((1, 2)),
        }

    def _actor_loss(
        self, batch: Batch, advantage: Float[Tensor, "S B"], dropout: Sequence[Tensor]
    ) -> Metrics:
        s = self.settings
        weights = advantage_weights(advantage, s.temperature, s.largest_weight)
        metrics = advantage_statistics(advantage, weights)
        if not self._trains_actor:
            return metrics | {"loss/actor": torch.zeros_like(advantage[:, 0])}
        log_prob = self.networks.actor.log_prob(batch.observations, batch.actions, dropout)
        return metrics | {"loss/actor": weighted_log_likelihood_loss(log_prob, weights)}
