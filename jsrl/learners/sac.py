"""Soft actor-critic (Haarnoja et al. 2018, arXiv 1812.05905), with ensembles of critics.

With ``critics=10 target_critics=2 critic_updates=20`` it is REDQ (Chen et al. 2021, arXiv
2101.05982). The presets ``rlpd`` (Ball et al. 2023, arXiv 2302.02948) and ``wsrl`` (Zhou et al.
2025, arXiv 2412.07762) normalise the critics' layers beside that.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from jsrl.core.errors import UserError
from jsrl.core.protocols import Draws, Metrics, Phase
from jsrl.core.ranges import at_least
from jsrl.core.streams import Streams
from jsrl.core.transitions import TransitionBatch
from jsrl.learners.actor_critic import ActorCritic, ActorCriticNetworks
from jsrl.learners.augmentation import RandomShifts
from jsrl.learners.bootstrap import Bootstrap, BootstrapsByRule
from jsrl.learners.common import SeedOptimiser, compiled
from jsrl.learners.losses import bootstrapped_target, squared_td_error
from jsrl.learners.options import LearnerInputs, NStepOptions, check_log_std_range, learners
from jsrl.networks.tanh_gaussian import TanhGaussianPolicy


@dataclass
class SACOptions(NStepOptions):
    """Of ``learner=sac``; the defaults are those of Haarnoja et al. 2018, appendix D."""

    # [low, high] of the policy's log standard deviation, before the tanh.
    log_std_range: list[float] = field(default_factory=lambda: [-20.0, 2.0])
    # How many critics there are.
    critics: int = 2
    # Of how many of them, drawn for each update, the target is the least; null: of all. With a
    # number the actor goes by the mean of all critics, as in REDQ, and else by the least.
    target_critics: int | None = None
    # The entropy that the temperature aims at; null: entropy_per_dimension times their number.
    target_entropy: float | None = None
    # The entropy that is aimed at for each action dimension, where target_entropy is null.
    entropy_per_dimension: float = -1.0
    # Whether entropy after the next action counts in the critics' target, as it does for the actor.
    backup_entropy: bool = True
    # The temperature at the beginning.
    initial_temperature: float = 1.0
    # Minibatches of the critics in an update, the last of which trains the actor too.
    critic_updates: int = 1
    # Whether these are parts of equal size of one minibatch of batch_size, from all of which the
    # actor learns, as in WSRL; else each is a minibatch of its own.
    split_batch: bool = False
    # Widths of the critics' hidden layers; null: those of hidden.
    critic_hidden: list[int] | None = None
    # Of Adam, for the actor and the temperature; null: that of learning_rate.
    actor_learning_rate: float | None = None
    # Whether updates are compiled by torch.compile: faster after a minute or two.
    compile: bool = False

    neutral = (*NStepOptions.neutral, ("compile", False))
    networks = ("actor", "critic")

    def check(self) -> None:
        super().check()
        for name in ("critics", "critic_updates"):
            at_least(f"learner.{name}", getattr(self, name), 1)
        chosen = self.target_critics
        if chosen is not None and not 1 <= chosen <= self.critics:
            raise UserError(
                f"learner.target_critics={chosen} must lie between 1 and "
                f"learner.critics={self.critics}, or be null"
            )
        if not self.initial_temperature > 0:
            raise UserError(
                f"learner.initial_temperature={self.initial_temperature} must be above 0"
            )
        if any(width < 1 for width in self.critic_hidden or ()):
            raise UserError(
                f"learner.critic_hidden={self.critic_hidden} must be sizes of at least 1, or null"
            )
        if self.actor_learning_rate is not None and not self.actor_learning_rate > 0:
            raise UserError(
                f"learner.actor_learning_rate={self.actor_learning_rate} must be above 0, or null"
            )
        if self.split_batch and self.batch_size % self.critic_updates:
            raise UserError(
                f"learner.batch_size={self.batch_size} cannot be split into "
                f"learner.critic_updates={self.critic_updates} equal parts; set learner.batch_size="
                f"{-(-self.batch_size // self.critic_updates) * self.critic_updates} or "
                "learner.split_batch=false"
            )
        check_log_std_range(self.log_std_range)


class SACNetworks(ActorCriticNetworks):
    """Everything that SAC trains, and the targets that follow it."""

    def __init__(self, options: SACOptions, inputs: LearnerInputs) -> None:
        seeds, layers = len(inputs.streams), inputs.layers.actor
        actor = TanhGaussianPolicy(
            seeds,
            inputs.observation.size,
            inputs.actions.size,
            options.hidden,
            layers.activation,
            layers.layer_norm,
            log_std_range=options.log_std_range,
            normalise_observations=options.normalise_observations,
            images=inputs.observation.image_shapes,
            encoder=options.encoder,
        )
        hidden = options.hidden if options.critic_hidden is None else options.critic_hidden
        super().__init__(actor, inputs, hidden, options.encoder, options.critics)
        start = torch.tensor(options.initial_temperature).log()
        self.log_temperature = nn.Parameter(start.repeat(seeds, 1))


@learners.register("sac", SACOptions)
class SAC(BootstrapsByRule, ActorCritic):
    """Soft actor-critic for S seeds at once, with a temperature of each seed.

    Args:
        options: see ``SACOptions``.
        inputs: what every learner gets.
    """

    of_critic: tuple[str, ...] = ("critic",)
    """What is trained with the critics."""

    def __init__(self, options: SACOptions, inputs: LearnerInputs) -> None:
        self.options: Any = options
        self.device = inputs.device
        self.action_size = inputs.actions.size
        alone = 0 if options.split_batch else options.critic_updates - 1
        self.needs = options.needs(
            *(self.of_critic,) * alone, ("temperature", *self.of_critic, "actor")
        )
        self.shifts = RandomShifts(options, inputs)
        self.bootstrap = Bootstrap(options.batch_size, self.device)
        networks = SACNetworks(options, inputs)
        networks.initialise(options.initialisation, inputs.streams.child("initialisation"))
        networks.actor.set_normaliser(inputs.observation_mean, inputs.observation_std)
        networks.to(self.device)
        groups: dict[str, list[nn.Parameter]] = {
            "temperature": [networks.log_temperature],
            **networks.trained_groups(),
            **self.other_groups(len(inputs.streams)),
        }
        rate = options.actor_learning_rate or options.learning_rate
        optimiser = SeedOptimiser(
            groups, options.learning_rate, len(inputs.streams), {"temperature": rate, "actor": rate}
        )
        super().__init__(networks, optimiser, options.target_rate)
        given = options.target_entropy
        in_all = options.entropy_per_dimension * self.action_size
        self.target_entropy = in_all if given is None else given
        self._descend = compiled(self.descend) if options.compile else self.descend

    def other_groups(self, seeds: int) -> dict[str, list[nn.Parameter]]:
        """Further parameters that are trained, by name."""
        return {}

    def draws(self, streams: Streams) -> Draws:
        """Noise ``[S, B, A]`` of this and the next action, ranks ``[S, K]`` of the critics, shifts.

        Ranks are drawn where the target is the least of some critics, and ``[S, n, K]`` of them
        where a minibatch is split into n parts; shifts are drawn where images are.
        """
        o, shape = self.options, (self.options.batch_size, self.action_size)
        drawn = {
            "noise": streams.normal("policy_noise", shape),
            "next_noise": streams.normal("next_policy_noise", self.next_noise_shape()),
        }
        if o.target_critics is not None:
            parts = (o.critic_updates,) if o.split_batch else ()
            drawn["ranks"] = streams.uniform("target_critics", (*parts, o.critics))
        drawn |= self.other_draws(streams)
        drawn = {name: tensor.to(self.device, non_blocking=True) for name, tensor in drawn.items()}
        return drawn | self.shifts.draws(streams) | self.bootstrap.draws(streams)

    def next_noise_shape(self) -> tuple[int, ...]:
        """Of the noise of the next action, of one seed."""
        return self.options.batch_size, self.action_size

    def other_draws(self, streams: Streams) -> Draws:
        """Further random tensors, ``[S, B, …]``."""
        return {}

    def start_phase(self, phase: Phase, updates: int) -> None:
        """While the critics warm up, the actor and the temperature stay as they are."""
        self._trains_actor = phase is not Phase.CRITIC_WARMUP

    def update(self, batch: TransitionBatch, draws: Draws) -> Metrics:
        """One step of the temperature, the critics, the actor, and then the targets."""
        return self.train(self.needs.batches[-1], batch, draws)

    def train(self, networks: Sequence[str], batch: TransitionBatch, draws: Draws) -> Metrics:
        """One step of the named networks, in the order of ``update``, and then of the targets."""
        trained = tuple(networks) if self._trains_actor else self.of_critic
        batch = self.shifts.apply(batch, draws)
        metrics: Metrics = {}
        if self.options.split_batch and "critic" in trained:
            metrics |= self._train_critics_on_parts(batch, draws)
            trained = tuple(name for name in trained if name not in self.of_critic)
        if not trained:
            return metrics
        self.optimiser.prepare(*trained)
        return metrics | self._descend(batch, draws, trained)

    def descend(self, batch: TransitionBatch, draws: Draws, trained: tuple[str, ...]) -> Metrics:
        """All of an update but the clocks: tensors in, tensors out, compiled as one."""
        temperature = self.networks.log_temperature.detach().exp()
        trains_actor = "actor" in trained
        metrics: Metrics = {}
        if trains_actor:
            actor = self.networks.actor
            action, log_prob = actor.sample_with_log_prob(
                actor.encode(batch.observation), draws["noise"]
            )
            metrics |= self._step_temperature(log_prob.detach())
        if "critic" in trained:
            metrics |= self.step_critics(batch, draws, temperature)
        if trains_actor:
            metrics |= self.actor_losses(batch, action, log_prob, temperature)
            self.optimiser.descend(metrics["loss/actor"], "actor")
        if "critic" in trained:
            self.follow()
        return {name: value.detach() for name, value in metrics.items()}

    def step_critics(
        self, batch: TransitionBatch, draws: Draws, temperature: Float[Tensor, "S 1"]
    ) -> Metrics:
        """Move the critics towards their target."""
        networks = self.networks
        target = self.target(batch, temperature, draws)
        q = networks.critic(networks.pairs(networks.critic_encoder, batch))[..., 0]
        loss = squared_td_error(q, target, "sum")
        self.optimiser.descend(loss, "critic")
        return {"loss/critic": loss, "value/q": q.detach().mean((1, 2))}

    def actor_losses(
        self,
        batch: TransitionBatch,
        action: Float[Tensor, "S B A"],
        log_prob: Float[Tensor, "S B"],
        temperature: Float[Tensor, "S 1"],
    ) -> Metrics:
        """The actor's loss for actions of its own, by the critics as they are now."""
        networks = self.networks
        seen = networks.read(networks.critic_encoder, batch.observation).detach()
        of_action = networks.critic(torch.cat([seen, action], -1))[..., 0]
        mean = self.options.target_critics is not None
        value = of_action.mean(1) if mean else of_action.amin(1)
        return {
            "loss/actor": (temperature * log_prob - value).mean(-1),
            "policy/entropy": -log_prob.mean(-1),
            "policy/temperature": temperature[:, 0],
        }

    def policy(self) -> TanhGaussianPolicy:
        """The policy being learnt."""
        policy: TanhGaussianPolicy = self.networks.actor
        return policy

    def _step_temperature(self, log_prob: Float[Tensor, "S B"]) -> Metrics:
        """Move the temperature towards the target entropy (section 5, with its logarithm)."""
        distance = log_prob + self.target_entropy
        loss = -(self.networks.log_temperature * distance).mean(-1)
        self.optimiser.descend(loss, "temperature")
        return {"loss/temperature": loss}

    def _train_critics_on_parts(self, batch: TransitionBatch, draws: Draws) -> Metrics:
        """One step of the critics from each part of a minibatch."""
        parts = self.options.critic_updates
        metrics: Metrics = {}
        for part in range(parts):
            of_part = {
                name: drawn[:, part] if name == "ranks" else drawn[:, part::parts].contiguous()
                for name, drawn in draws.items()
            }
            self.optimiser.prepare(*self.of_critic)
            metrics |= self._descend(batch.part(part, parts), of_part, self.of_critic)
        return metrics

    @torch.no_grad()
    def target(
        self, batch: TransitionBatch, temperature: Float[Tensor, "S 1"], draws: Draws
    ) -> Float[Tensor, "S B"]:
        """r + discount·V(s'), for V(s') see ``next_value``."""
        o, value = self.options, self.next_value(batch, temperature, draws)
        reward = o.reward_scale * batch.reward + o.reward_shift
        return bootstrapped_target(reward, batch.discount, value)

    def next_value(
        self, batch: TransitionBatch, temperature: Float[Tensor, "S 1"], draws: Draws
    ) -> Float[Tensor, "S B"]:
        """min Q(s', a') - α·log π(a'|s'), or without the entropy, of one a' from the policy.

        Where a rule of who acts mixes it with the guide's action or puts that in its place, a' is
        the action that results; the entropy of the policy counts wherever it has a share in it.
        """
        actor = self.networks.actor
        own, log_prob = actor.sample_with_log_prob(
            actor.encode(batch.next_observation), draws["next_noise"]
        )
        action, share = self.bootstrap.choose(batch, own, draws)
        features = self.networks.read(self.networks.target_encoder, batch.next_observation)
        value = self.least_target_q(features, action, draws)
        return self.with_entropy(value, temperature, log_prob, share)

    def with_entropy(
        self,
        value: Float[Tensor, "S B"],
        temperature: Float[Tensor, "S 1"],
        log_prob: Float[Tensor, "S B"],
        share: Float[Tensor, "S B"] | None,
    ) -> Float[Tensor, "S B"]:
        """The value of actions with the policy's entropy, if that is asked for.

        A guide that acts alone has none.
        """
        if not self.options.backup_entropy:
            return value
        if share is None:
            return value - temperature * log_prob
        return value - torch.where(share > 0, temperature * log_prob, 0.0)

    def least_target_q(
        self, features: Float[Tensor, "S N F"], action: Float[Tensor, "S N A"], draws: Draws
    ) -> Float[Tensor, "S N"]:
        """The least of the chosen target critics."""
        q = self.networks.target_critic(torch.cat([features, action], -1))[..., 0]
        if self.options.target_critics is not None:
            chosen = draws["ranks"].argsort(-1)[:, : self.options.target_critics]
            q = q.gather(1, chosen.unsqueeze(-1).expand(-1, -1, q.shape[-1]))
        least: Tensor = q.amin(1)
        return least
