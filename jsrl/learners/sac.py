"""Soft actor-critic (Haarnoja et al. 2018, arXiv 1812.05905), with ensembles of critics.

With ``critics=10 target_critics=2 critic_updates=20`` it is REDQ (Chen et al. 2021, arXiv
2101.05982); with ``activation.critic.layer_norm=true`` the critics are normalised as in RLPD (Ball
et al. 2023, arXiv 2302.02948).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

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
    # The entropy that the temperature aims at; null: minus the number of action dimensions.
    target_entropy: float | None = None
    # The temperature at the beginning.
    initial_temperature: float = 1.0
    # Minibatches of the critics in an update, the last of which trains the actor too.
    critic_updates: int = 1
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
        super().__init__(actor, inputs, options.hidden, options.encoder, options.critics)
        start = torch.tensor(options.initial_temperature).log()
        self.log_temperature = nn.Parameter(start.repeat(seeds, 1))


@learners.register("sac", SACOptions)
class SAC(ActorCritic):
    """Soft actor-critic for S seeds at once, with a temperature of each seed.

    Args:
        options: see ``SACOptions``.
        inputs: what every learner gets.
    """

    def __init__(self, options: SACOptions, inputs: LearnerInputs) -> None:
        self.options = options
        self.device = inputs.device
        self.action_size = inputs.actions.size
        critics_alone = (("critic",),) * (options.critic_updates - 1)
        self.needs = options.needs(*critics_alone, ("temperature", "critic", "actor"))
        self.shifts = RandomShifts(options, inputs)
        networks = SACNetworks(options, inputs)
        networks.initialise(options.initialisation, inputs.streams.child("initialisation"))
        networks.actor.set_normaliser(inputs.observation_mean, inputs.observation_std)
        networks.to(self.device)
        groups = {
            "temperature": [networks.log_temperature],
            "critic": networks.critic_parameters(),
            "actor": networks.actor.trained_parameters(),
        }
        optimiser = SeedOptimiser(groups, options.learning_rate, len(inputs.streams))
        super().__init__(networks, optimiser, options.target_rate)
        given = options.target_entropy
        self.target_entropy = -float(self.action_size) if given is None else given
        self._descend = compiled(self.descend) if options.compile else self.descend

    def draws(self, streams: Streams) -> Draws:
        """Noise ``[S, B, A]`` of this and the next action, ranks ``[S, K]`` of the critics, shifts.

        Ranks are drawn where the target is the least of some critics, shifts where images are.
        """
        o, shape = self.options, (self.options.batch_size, self.action_size)
        drawn = {
            "noise": streams.normal("policy_noise", shape),
            "next_noise": streams.normal("next_policy_noise", shape),
        }
        if o.target_critics is not None:
            drawn["ranks"] = streams.uniform("target_critics", (o.critics,))
        drawn = {name: tensor.to(self.device, non_blocking=True) for name, tensor in drawn.items()}
        return drawn | self.shifts.draws(streams)

    def start_phase(self, phase: Phase, updates: int) -> None:
        """While the critics warm up, the actor and the temperature stay as they are."""
        self._trains_actor = phase is not Phase.CRITIC_WARMUP

    def update(self, batch: TransitionBatch, draws: Draws) -> Metrics:
        """One step of the temperature, the critics, the actor, and then the targets."""
        return self.train(self.needs.batches[-1], batch, draws)

    def train(self, networks: Sequence[str], batch: TransitionBatch, draws: Draws) -> Metrics:
        """One step of the named networks, in the order of ``update``, and then of the targets."""
        trained = networks if self._trains_actor else ("critic",)
        self.optimiser.prepare(*trained)
        return self._descend(self.shifts.apply(batch, draws), draws, "actor" in trained)

    def descend(self, batch: TransitionBatch, draws: Draws, trains_actor: bool) -> Metrics:
        """All of an update but the clocks: tensors in, tensors out, compiled as one."""
        networks, o = self.networks, self.options
        temperature = networks.log_temperature.detach().exp()
        metrics: Metrics = {}
        if trains_actor:
            features = networks.actor.encode(batch.observation)
            action, log_prob = networks.actor.sample_with_log_prob(features, draws["noise"])
            metrics |= self._step_temperature(log_prob.detach())
        target = self._target(batch, temperature, draws)
        q = networks.critic(networks.pairs(networks.critic_encoder, batch))[..., 0]
        metrics |= {
            "loss/critic": squared_td_error(q, target, "sum"),
            "value/q": q.detach().mean((1, 2)),
        }
        self.optimiser.descend(metrics["loss/critic"], "critic")
        if trains_actor:
            seen = networks.read(networks.critic_encoder, batch.observation).detach()
            of_action = networks.critic(torch.cat([seen, action], -1))[..., 0]
            mean = o.target_critics is not None
            value = of_action.mean(1) if mean else of_action.amin(1)
            metrics["loss/actor"] = (temperature * log_prob - value).mean(-1)
            self.optimiser.descend(metrics["loss/actor"], "actor")
            metrics["policy/entropy"] = -log_prob.mean(-1)
            metrics["policy/temperature"] = temperature[:, 0]
        self.follow()
        return {name: value.detach() for name, value in metrics.items()}

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

    @torch.no_grad()
    def _target(
        self, batch: TransitionBatch, temperature: Float[Tensor, "S 1"], draws: Draws
    ) -> Float[Tensor, "S B"]:
        """r + discount·(min Q(s', a') - α·log π(a'|s')), the least of the chosen Q."""
        o, networks = self.options, self.networks
        features = networks.actor.encode(batch.next_observation)
        action, log_prob = networks.actor.sample_with_log_prob(features, draws["next_noise"])
        seen = networks.read(networks.target_encoder, batch.next_observation)
        q = networks.target_critic(torch.cat([seen, action], -1))[..., 0]
        if o.target_critics is not None:
            chosen = draws["ranks"].argsort(-1)[:, : o.target_critics]
            q = q.gather(1, chosen.unsqueeze(-1).expand(-1, -1, q.shape[-1]))
        value = q.amin(1) - temperature * log_prob
        reward = o.reward_scale * batch.reward + o.reward_shift
        return bootstrapped_target(reward, batch.discount, value)
