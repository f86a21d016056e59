"""Implicit Q-Learning (Kostrikov, Nair and Levine 2021, arXiv 2110.06169)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.protocols import Consumes, DataNeeds, Draws, Metrics, Phase
from jsrl.core.ranges import at_least, one_of
from jsrl.core.streams import Streams
from jsrl.core.transitions import TransitionBatch
from jsrl.learners.actor_critic import ActorCritic, ActorCriticNetworks
from jsrl.learners.augmentation import RandomShifts
from jsrl.learners.common import (
    SeedOptimiser,
    advantage_statistics,
    compiled,
    dropout_masks,
    masks_of,
)
from jsrl.learners.gaussian_actor import gaussian_actor
from jsrl.learners.losses import (
    advantage_weights,
    bootstrapped_target,
    expectile_loss,
    squared_td_error,
    weighted_log_likelihood_loss,
)
from jsrl.learners.options import LearnerInputs, ValueOptions, learners
from jsrl.learners.robustness import AdversarialTraining, RobustOptions
from jsrl.networks.layers import INITIALISATIONS, SeedMLP
from jsrl.networks.policies import GaussianPolicy


@dataclass
class IQLOptions(ValueOptions, RobustOptions):
    """The choices that published IQL implementations differ in; the defaults are the official ones.

    Sources: Kostrikov et al. 2021, section 4 and appendix B; the presets in ``configs/learner``.
    """

    initialisation: str = "orthogonal"
    # Of the values' regression, in (0, 1): near 1 is the best action in the data.
    expectile: float = 0.9
    # Inverse temperature of the advantage weights: 0 is behaviour cloning.
    temperature: float = 10.0
    # At which the advantage weights are clipped.
    largest_weight: float = 100.0
    # Whether the value is updated before the actor and the critic.
    value_first: bool = True
    # The losses of the two critics: their sum or their mean.
    critic_reduction: str = "sum"
    # Standard deviation of the noise on the policy's mean with which it acts online; null: it acts
    # by its samples, whose spread it has learnt from the data.
    exploration_noise: float | None = None
    # Whether updates are compiled by torch.compile: faster after a minute or two.
    compile: bool = False

    neutral = (*RobustOptions.neutral, ("compile", False))

    def check(self) -> None:
        super().check()
        if self.exploration_noise is not None:
            at_least("learner.exploration_noise", self.exploration_noise, 0)
        one_of("learner.critic_reduction", self.critic_reduction, ("sum", "mean"))
        if not 0 < self.expectile < 1:
            raise UserError(f"learner.expectile={self.expectile} must lie between 0 and 1")
        if self.compile and self.adversarial_epsilon > 0:
            raise UserError(
                f"learner.adversarial_epsilon={self.adversarial_epsilon} takes gradients by "
                "observations, which are not compiled; set learner.compile=false"
            )


class IQLNetworks(ActorCriticNetworks):
    """Everything that IQL trains, and the target that follows it."""

    def __init__(self, options: IQLOptions, inputs: LearnerInputs) -> None:
        actor = gaussian_actor(options, inputs, options.exploration_noise)
        super().__init__(actor, inputs, options.hidden, options.encoder, critics=2)
        self.value_encoder = self.make_encoder()
        self.share_convolutions(self.value_encoder)
        layers = inputs.layers.value
        self.value = SeedMLP(
            (len(inputs.streams),),
            self.value_encoder.size,
            options.hidden,
            1,
            layers.activation,
            layers.layer_norm,
        )

    def initialise(self, scheme: str, streams: Streams) -> None:
        """Draw all parameters; the target begins as a copy of the critic."""
        super().initialise(scheme, streams)
        self.value.initialise(INITIALISATIONS[scheme], streams, "value")
        self.value_encoder.initialise(streams, "value_encoder")

    def v(self, observation: Observation) -> Float[Tensor, "S B"]:
        """V(s)."""
        values: Tensor = self.value(self.read(self.value_encoder, observation))
        return values[..., 0]


@learners.register("iql", IQLOptions)
class IQL(ActorCritic):
    """IQL for S seeds at once.

    Args:
        options: see ``IQLOptions``.
        inputs: what every learner gets.
    """

    def __init__(self, options: IQLOptions, inputs: LearnerInputs) -> None:
        self.options = options
        self.num_seeds = len(inputs.streams)
        self.device = inputs.device
        self.needs = DataNeeds(
            Consumes.TRANSITIONS, (("value", "critic", "actor"),), discount=options.discount
        )
        self.shifts = RandomShifts(options, inputs)
        self.adversary = AdversarialTraining(options, inputs)
        networks = IQLNetworks(options, inputs)
        networks.initialise(options.initialisation, inputs.streams.child("initialisation"))
        networks.actor.set_normaliser(inputs.observation_mean, inputs.observation_std)
        networks.to(self.device)
        groups: dict[str, list[nn.Parameter]] = {
            "value": [
                *networks.value.parameters(),
                *networks.value_encoder.trained_parameters(),
            ],
            **networks.trained_groups(),
        }
        optimiser = SeedOptimiser(groups, options.learning_rate, self.num_seeds)
        super().__init__(networks, optimiser, options.target_rate)
        self._descend = compiled(self.descend) if options.compile else self.descend

    def draws(self, streams: Streams) -> Draws:
        """Dropout masks ``[S, B, width]``, one a hidden layer, and shifts of images, if any."""
        o = self.options
        masks = dropout_masks(streams, o.hidden, o.batch_size, o.dropout, self.device)
        return masks | self.shifts.draws(streams)

    def start_phase(self, phase: Phase, updates: int) -> None:
        """The actor's cosine decay belongs to the offline phase alone; warm-up leaves it alone."""
        decays = phase is Phase.OFFLINE and self.options.actor_schedule == "cosine"
        self.optimiser.start_schedule("actor", updates if decays else 0)
        self._trains_actor = phase is not Phase.CRITIC_WARMUP

    def update(self, batch: TransitionBatch, draws: Draws) -> Metrics:
        """One gradient step of every network, in the order that the options name."""
        trained = ("critic", "actor") if self._trains_actor else ("critic",)
        self.optimiser.prepare("value", *trained)
        batch = self.shifts.apply(batch, draws)
        return self._descend(batch, masks_of(draws), trained)

    def descend(
        self, batch: TransitionBatch, dropout: Sequence[Tensor], trained: Sequence[str]
    ) -> Metrics:
        """All of an update but the clocks: tensors in, tensors out, compiled as one."""
        if self.options.value_first:
            metrics, target_q = self.value_losses(batch)
            self.optimiser.descend(metrics["loss/value"], "value")
            metrics |= self.actor_critic_losses(batch, target_q, dropout)
            self.optimiser.descend(metrics["loss/critic"] + metrics["loss/actor"], *trained)
        else:
            metrics = self.joint_losses(batch, dropout)
            losses = metrics["loss/value"] + metrics["loss/critic"] + metrics["loss/actor"]
            self.optimiser.descend(losses, "value", *trained)
        self.follow()
        return {name: value.detach() for name, value in metrics.items()}

    def value_losses(self, batch: TransitionBatch) -> tuple[Metrics, Float[Tensor, "S B"]]:
        """The value loss, and min Q of the target critic, from which it comes."""
        target_q = self._target_q(batch)
        v = self.networks.v(batch.observation)
        loss = expectile_loss(target_q - v, self.options.expectile)
        return {"loss/value": loss, "value/v": v.detach().mean(-1)}, target_q

    def actor_critic_losses(
        self, batch: TransitionBatch, target_q: Float[Tensor, "S B"], dropout: Sequence[Tensor]
    ) -> Metrics:
        """The losses of actor and critic, with V as it is now."""
        with torch.no_grad():
            v = self.networks.v(batch.observation)
            next_v = self.networks.v(batch.next_observation)
        return self._critic_loss(batch, next_v) | self._actor_loss(batch, target_q - v, dropout)

    def joint_losses(self, batch: TransitionBatch, dropout: Sequence[Tensor]) -> Metrics:
        """The losses of value, critic and actor, all at the same parameters."""
        target_q = self._target_q(batch)
        v = self.networks.v(batch.observation)
        with torch.no_grad():
            next_v = self.networks.v(batch.next_observation)
        return {
            "loss/value": expectile_loss(target_q - v, self.options.expectile),
            "value/v": v.detach().mean(-1),
            **self._critic_loss(batch, next_v),
            **self._actor_loss(batch, target_q - v.detach(), dropout),
        }

    def policy(self) -> GaussianPolicy:
        """The policy being learnt."""
        policy: GaussianPolicy = self.networks.actor
        return policy

    @torch.no_grad()
    def predict(
        self, observation: Observation, action: Float[Tensor, "S N A"]
    ) -> dict[str, Float[Tensor, "S N"]]:
        """What the networks say of states and of actions in them: V(s), and the lower Q(s, a)."""
        q = self.networks.q_values(observation, action)
        return {"value": self.networks.v(observation), "critic": q.amin(1)}

    @torch.no_grad()
    def _target_q(self, batch: TransitionBatch) -> Float[Tensor, "S B"]:
        networks = self.networks
        q: Tensor = networks.target_critic(networks.pairs(networks.target_encoder, batch))
        return q.amin(1)[..., 0]

    def _critic_loss(self, batch: TransitionBatch, next_v: Float[Tensor, "S B"]) -> Metrics:
        o, networks = self.options, self.networks
        reward = o.reward_scale * batch.reward + o.reward_shift
        target = bootstrapped_target(reward, batch.discount, next_v)
        q = networks.critic(networks.pairs(networks.critic_encoder, batch))[..., 0]
        return {
            "loss/critic": squared_td_error(q, target, o.critic_reduction),
            "value/q": q.detach().mean((1, 2)),
        }

    def _actor_loss(
        self, batch: TransitionBatch, advantage: Float[Tensor, "S B"], dropout: Sequence[Tensor]
    ) -> Metrics:
        o, actor = self.options, self.networks.actor
        weights = advantage_weights(advantage, o.temperature, o.largest_weight)
        metrics = advantage_statistics(advantage, weights)
        if not self._trains_actor:
            return metrics | {"loss/actor": torch.zeros_like(advantage[:, 0])}

        def loss_of(observation: Observation) -> Float[Tensor, " S"]:
            log_prob = actor.log_prob(actor.encode(observation), batch.action, dropout)
            return weighted_log_likelihood_loss(log_prob, weights)

        return metrics | {"loss/actor": self.adversary.loss(loss_of, batch.observation)}
