"""Soft actor-critic (Haarnoja et al. 2018, arXiv 1812.05905), with ensembles of critics.

With ``critics=10 target_critics=2 online.updates_per_step=20`` it is REDQ (Chen et al. 2021, arXiv
2101.05982); with ``activation.critic.layer_norm=true`` the critics are normalised as in RLPD (Ball
et al. 2023, arXiv 2302.02948).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from jsrl.core.errors import UserError
from jsrl.core.protocols import Consumes, Draws, Metrics, Phase
from jsrl.core.ranges import at_least, one_of
from jsrl.core.streams import Streams
from jsrl.core.transitions import Batch
from jsrl.learners.common import SeedOptimiser, copy_seeds
from jsrl.learners.losses import bootstrapped_target, squared_td_error
from jsrl.learners.options import LearnerInputs, LearnerOptions, learners
from jsrl.networks.layers import INITIALISATIONS, SeedMLP
from jsrl.networks.tanh_gaussian import TanhGaussianPolicy


@dataclass
class SACOptions(LearnerOptions):
    """Of ``learner=sac``; the defaults are those of Haarnoja et al. 2018, appendix D."""

    # Widths of the hidden layers of every network.
    hidden: list[int] = field(default_factory=lambda: [256, 256])
    # Of Adam, for every network and for the temperature.
    learning_rate: float = 3e-4
    # Of the weights: orthogonal, pytorch or variance_scaling.
    initialisation: str = "pytorch"
    # [low, high] of the policy's log standard deviation, before the tanh.
    log_std_range: list[float] = field(default_factory=lambda: [-20.0, 2.0])
    # Whether networks see observations normalised by the dataset's mean and spread.
    normalise_observations: bool = False
    # Discount of future rewards, in [0, 1].
    discount: float = 0.99
    # Share by which the target critics follow the critics in an update, in (0, 1].
    target_rate: float = 0.005
    # How many critics there are.
    critics: int = 2
    # Of how many of them, drawn for each update, the target is the least; null: of all. With a
    # number the actor goes by the mean of all critics, as in REDQ, and else by the least.
    target_critics: int | None = None
    # The entropy that the temperature aims at; null: minus the number of action dimensions.
    target_entropy: float | None = None
    # The temperature at the beginning.
    initial_temperature: float = 1.0
    # The learner learns from reward_scale·reward + reward_shift.
    reward_scale: float = 1.0
    # See reward_scale.
    reward_shift: float = 0.0

    networks = ("actor", "critic")
    about_data = (*LearnerOptions.about_data, "normalise_observations")

    def check(self) -> None:
        super().check()
        one_of("learner.initialisation", self.initialisation, tuple(INITIALISATIONS))
        at_least("learner.critics", self.critics, 1)
        chosen = self.target_critics
        if chosen is not None and not 1 <= chosen <= self.critics:
            raise UserError(
                f"learner.target_critics={chosen} must lie between 1 and "
                f"learner.critics={self.critics}, or be null"
            )
        if not self.learning_rate > 0:
            raise UserError(f"learner.learning_rate={self.learning_rate} must be above 0")
        if not self.initial_temperature > 0:
            raise UserError(
                f"learner.initial_temperature={self.initial_temperature} must be above 0"
            )
        if not 0 <= self.discount <= 1:
            raise UserError(f"learner.discount={self.discount} must lie in [0, 1]")
        if not 0 < self.target_rate <= 1:
            raise UserError(f"learner.target_rate={self.target_rate} must lie in (0, 1]")
        if any(width < 1 for width in self.hidden):
            raise UserError(f"learner.hidden={self.hidden} must be sizes of at least 1")
        if len(self.log_std_range) != 2 or self.log_std_range[0] > self.log_std_range[1]:
            raise UserError(f"learner.log_std_range={self.log_std_range} must be [low, high]")

    def reward_transform(self) -> tuple[float, float]:
        return self.reward_scale, self.reward_shift


class SACNetworks(nn.Module):
    """Everything that SAC trains, and the targets that follow it."""

    def __init__(self, options: SACOptions, inputs: LearnerInputs) -> None:
        super().__init__()
        seeds, layers = len(inputs.streams), inputs.layers
        pair = inputs.observation_size + inputs.action_size
        critic = (pair, options.hidden, 1, layers.critic.activation, layers.critic.layer_norm)
        self.actor = TanhGaussianPolicy(
            seeds,
            inputs.observation_size,
            inputs.action_size,
            options.hidden,
            layers.actor.activation,
            layers.actor.layer_norm,
            options.log_std_range,
            options.normalise_observations,
        )
        self.critic = SeedMLP((seeds, options.critics), *critic)
        self.target_critic = SeedMLP((seeds, options.critics), *critic)
        start = torch.tensor(options.initial_temperature).log()
        self.log_temperature = nn.Parameter(start.repeat(seeds, 1))

    def initialise(self, scheme: str, streams: Streams) -> None:
        """Draw all parameters; the targets begin as copies of the critics."""
        initialisation = INITIALISATIONS[scheme]
        self.actor.mlp.initialise(initialisation, streams, "actor")
        self.critic.initialise(initialisation, streams, "critic")
        self.target_critic.load_state_dict(self.critic.state_dict())
        self.target_critic.requires_grad_(False)


@learners.register("sac", SACOptions)
class SAC:
    """Soft actor-critic for S seeds at once, with a temperature of each seed.

    Args:
        options: see ``SACOptions``.
        inputs: what every learner gets.
    """

    consumes = Consumes.TRANSITIONS

    def __init__(self, options: SACOptions, inputs: LearnerInputs) -> None:
        self.options = options
        self.device = inputs.device
        self.action_size = inputs.action_size
        self.networks = SACNetworks(options, inputs)
        self.networks.initialise(options.initialisation, inputs.streams.child("initialisation"))
        self.networks.actor.set_normaliser(inputs.observation_mean, inputs.observation_std)
        self.networks.to(self.device)
        self.optimiser = SeedOptimiser(
            {
                "temperature": [self.networks.log_temperature],
                "critic": list(self.networks.critic.parameters()),
                "actor": list(self.networks.actor.parameters()),
            },
            options.learning_rate,
            len(inputs.streams),
        )
        given = options.target_entropy
        self.target_entropy = -float(inputs.action_size) if given is None else given
        self._targets: list[Tensor] = list(self.networks.target_critic.parameters())
        self._sources: list[Tensor] = list(self.networks.critic.parameters())
        self._trains_actor = True

    def draws(self, streams: Streams) -> Draws:
        """Noise ``[S, B, A]`` of this and the next action, and ranks ``[S, K]`` of the critics."""
        o, shape = self.options, (self.options.batch_size, self.action_size)
        drawn = {
            "noise": streams.normal("policy_noise", shape),
            "next_noise": streams.normal("next_policy_noise", shape),
        }
        if o.target_critics is not None:
            drawn["ranks"] = streams.uniform("target_critics", (o.critics,))
        return {name: tensor.to(self.device, non_blocking=True) for name, tensor in drawn.items()}

    def start_phase(self, phase: Phase, updates: int) -> None:
        """While the critics warm up, the actor and the temperature stay as they are."""
        self._trains_actor = phase is not Phase.CRITIC_WARMUP

    def update(self, batch: Batch, draws: Draws) -> Metrics:
        """One step of the temperature, the critics, the actor, and then the targets."""
        obs, obs_action, next_obs = self._inputs(batch)
        temperature = self.networks.log_temperature.detach().exp()
        action, log_prob = self.networks.actor.sample_with_log_prob(
            batch.observations, draws["noise"]
        )
        metrics: Metrics = {}
        if self._trains_actor:
            metrics |= self._step_temperature(log_prob.detach())
        target = self._target(batch, next_obs, temperature, draws)
        q = self.networks.critic(obs_action)[..., 0]
        metrics |= {
            "loss/critic": squared_td_error(q, target, "sum"),
            "value/q": q.detach().mean((1, 2)),
        }
        self.optimiser.prepare("critic")
        self.optimiser.descend(metrics["loss/critic"], "critic")
        if self._trains_actor:
            of_action = self.networks.critic(torch.cat([obs, action], -1))[..., 0]
            mean = self.options.target_critics is not None
            value = of_action.mean(1) if mean else of_action.amin(1)
            metrics["loss/actor"] = (temperature * log_prob - value).mean(-1)
            self.optimiser.prepare("actor")
            self.optimiser.descend(metrics["loss/actor"], "actor")
        with torch.no_grad():
            torch._foreach_lerp_(self._targets, self._sources, self.options.target_rate)
        metrics["policy/entropy"] = -log_prob.mean(-1)
        metrics["policy/temperature"] = temperature[:, 0]
        return {name: value.detach() for name, value in metrics.items()}

    def policy(self) -> TanhGaussianPolicy:
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
        """Copy the networks of another SAC's state, or its actor alone; the optimiser stays fresh.

        Args:
            state: from ``state_dict`` of a learner of the same sizes.
            rows: for each seed of this learner, its place among those of ``state``.
            only_actor: leave critics, targets and temperature as they are.
        """
        if only_actor:
            copy_seeds(self.networks.actor, state["networks"], rows, prefix="actor.")
        else:
            copy_seeds(self.networks, state["networks"], rows)

    def _inputs(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Observations, observations with actions, next observations, as the critics see them."""
        if not self.options.normalise_observations:
            return batch.observations, batch.observations_actions, batch.next_observations
        normalise = self.networks.actor.normalise
        obs = normalise(batch.observations)
        return obs, torch.cat([obs, batch.actions], -1), normalise(batch.next_observations)

    def _step_temperature(self, log_prob: Float[Tensor, "S B"]) -> Metrics:
        """Move the temperature towards the target entropy (section 5, with its logarithm)."""
        distance = log_prob + self.target_entropy
        loss = -(self.networks.log_temperature * distance).mean(-1)
        self.optimiser.prepare("temperature")
        self.optimiser.descend(loss, "temperature")
        return {"loss/temperature": loss}

    @torch.no_grad()
    def _target(
        self,
        batch: Batch,
        next_obs: Float[Tensor, "S B O"],
        temperature: Float[Tensor, "S 1"],
        draws: Draws,
    ) -> Float[Tensor, "S B"]:
        """r + γ·(1 - terminated)·(min Q(s', a') - α·log π(a'|s')), the least of the chosen Q."""
        o = self.options
        action, log_prob = self.networks.actor.sample_with_log_prob(
            batch.next_observations, draws["next_noise"]
        )
        q = self.networks.target_critic(torch.cat([next_obs, action], -1))[..., 0]
        if o.target_critics is not None:
            chosen = draws["ranks"].argsort(-1)[:, : o.target_critics]
            q = q.gather(1, chosen.unsqueeze(-1).expand(-1, -1, q.shape[-1]))
        value = q.amin(1) - temperature * log_prob
        reward = o.reward_scale * batch.rewards + o.reward_shift
        return bootstrapped_target(reward, batch.terminated, value, o.discount)
