"""Twin delayed deep deterministic policy gradient, TD3 (Fujimoto et al. 2018, arXiv 1802.09477)."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from jsrl.core.observations import Observation
from jsrl.core.protocols import Draws, Metrics, Phase
from jsrl.core.ranges import at_least
from jsrl.core.streams import Streams
from jsrl.core.transitions import TransitionBatch
from jsrl.learners.actor_critic import ActorCritic, ActorCriticNetworks
from jsrl.learners.augmentation import RandomShifts
from jsrl.learners.bootstrap import Bootstrap, BootstrapsByRule
from jsrl.learners.common import SeedOptimiser, compiled
from jsrl.learners.losses import bootstrapped_target, squared_td_error
from jsrl.learners.options import LearnerInputs, NStepOptions, learners
from jsrl.networks.deterministic import DeterministicPolicy


@dataclass
class TD3Options(NStepOptions):
    """Of ``learner=td3``; the defaults are those of the authors' code."""

    # How many critics there are, of which the target is the least; the actor goes by the first.
    critics: int = 2
    # Updates of the critics to one of the actor and of all targets.
    policy_delay: int = 2
    # Standard deviation of the noise on the target's action.
    target_noise: float = 0.2
    # At which that noise is clipped.
    target_noise_clip: float = 0.5
    # Standard deviation of the noise on the actions of training.
    exploration_noise: float = 0.1
    # Steps of each seed at the beginning of online learning with actions that are uniform in
    # [-1, 1]. The authors have 25,000, or 1,000 in easy tasks; with a guide none are needed.
    random_steps: int = 0
    # Whether updates are compiled by torch.compile: faster after a minute or two.
    compile: bool = False

    neutral = (*NStepOptions.neutral, ("compile", False), ("random_steps", 0))
    networks = ("actor", "critic")

    def check(self) -> None:
        super().check()
        for name in ("critics", "policy_delay"):
            at_least(f"learner.{name}", getattr(self, name), 1)
        for name in ("target_noise", "target_noise_clip", "exploration_noise", "random_steps"):
            at_least(f"learner.{name}", getattr(self, name), 0)


class TD3Networks(ActorCriticNetworks):
    """Everything that TD3 trains, and the targets that follow it, of which one is an actor."""

    def __init__(self, options: TD3Options, inputs: LearnerInputs) -> None:
        layers = inputs.layers.actor
        actor = DeterministicPolicy(
            len(inputs.streams),
            inputs.observation.size,
            inputs.actions.size,
            options.hidden,
            layers.activation,
            layers.layer_norm,
            exploration_noise=options.exploration_noise,
            normalise_observations=options.normalise_observations,
            images=inputs.observation.image_shapes,
            encoder=options.encoder,
        )
        target_actor = copy.deepcopy(actor)
        super().__init__(actor, inputs, options.hidden, options.encoder, options.critics)
        self.target_actor = target_actor
        if actor.observation_encoder.borrows:
            target_actor.observation_encoder.borrow(self.target_encoder)

    def initialise(self, scheme: str, streams: Streams) -> None:
        """Draw all parameters; the targets begin as copies."""
        super().initialise(scheme, streams)
        self.actor.set_normaliser(self.inputs.observation_mean, self.inputs.observation_std)
        self.copy_actor()
        self.target_actor.requires_grad_(False)

    def copy_actor(self) -> None:
        """Make the target of the actor a copy of it, and with it convolutions that are shared."""
        self.target_actor.load_state_dict(self.actor.state_dict())

    def followed_parameters(self) -> list[nn.Parameter]:
        return [*super().followed_parameters(), *self.actor.trained_parameters()]

    def target_parameters(self) -> list[nn.Parameter]:
        return [*super().target_parameters(), *self.target_actor.trained_parameters()]


@learners.register("td3", TD3Options)
class TD3(BootstrapsByRule, ActorCritic):
    """TD3 for S seeds at once.

    Args:
        options: see ``TD3Options``.
        inputs: what every learner gets.
    """

    def __init__(self, options: TD3Options, inputs: LearnerInputs) -> None:
        self.options = options
        self.device = inputs.device
        self.action_size = inputs.actions.size
        self.needs = options.needs(("critic", "actor"))
        self.shifts = RandomShifts(options, inputs)
        self.bootstrap = Bootstrap(options.batch_size, self.device)
        networks = TD3Networks(options, inputs)
        networks.initialise(options.initialisation, inputs.streams.child("initialisation"))
        networks.to(self.device)
        optimiser = SeedOptimiser(
            networks.trained_groups(), options.learning_rate, len(inputs.streams)
        )
        super().__init__(networks, optimiser, options.target_rate)
        self.updates = 0
        self._of_actor: Metrics = {}
        self._descend = compiled(self.descend) if options.compile else self.descend

    def draws(self, streams: Streams) -> Draws:
        """Noise ``[S, B, A]`` of the target's action, and shifts of images, if any."""
        noise = streams.normal("target_noise", (self.options.batch_size, self.action_size))
        drawn = {"noise": noise.to(self.device, non_blocking=True)}
        return drawn | self.shifts.draws(streams) | self.bootstrap.draws(streams)

    def start_phase(self, phase: Phase, updates: int) -> None:
        """While the critics warm up, the actor stays; online learning begins by random actions."""
        self._trains_actor = phase is not Phase.CRITIC_WARMUP
        self.policy().random_steps = self.options.random_steps if phase is Phase.ONLINE else 0

    def update(self, batch: TransitionBatch, draws: Draws) -> Metrics:
        """One step of the critics, and where it is due one of the actor and of all targets.

        Metrics of the actor are those of its last step.
        """
        self.updates += 1
        due = self.updates % self.options.policy_delay == 0
        trained = ("critic", "actor") if due and self._trains_actor else ("critic",)
        self.optimiser.prepare(*trained)
        batch = self.shifts.apply(batch, draws)
        metrics, of_actor = self._descend(batch, draws, "actor" in trained, due)
        self._of_actor = of_actor or self._of_actor
        return metrics | self._of_actor

    def descend(
        self, batch: TransitionBatch, draws: Draws, trains_actor: bool, follows: bool
    ) -> tuple[Metrics, Metrics]:
        """All of an update but the clocks: tensors in, tensors out, compiled as one.

        The metrics of the actor come apart, and empty where it is not trained.
        """
        networks = self.networks
        target = self._target(batch, draws)
        q = networks.critic(networks.pairs(networks.critic_encoder, batch))[..., 0]
        loss = squared_td_error(q, target, "sum")
        self.optimiser.descend(loss, "critic")
        metrics = {"loss/critic": loss.detach(), "value/q": q.detach().mean((1, 2))}
        of_actor: Metrics = {}
        if trains_actor:
            of_actor = self.actor_losses(batch)
            self.optimiser.descend(of_actor["loss/actor"], "actor")
            of_actor = {name: value.detach() for name, value in of_actor.items()}
        if follows:
            self.follow()
        return metrics, of_actor

    def actor_losses(self, batch: TransitionBatch) -> Metrics:
        """The loss of the actor, and what is to be told beside it."""
        _, q = self.act_and_judge(batch)
        return {"loss/actor": -q.mean(-1)}

    def act_and_judge(
        self, batch: TransitionBatch
    ) -> tuple[Float[Tensor, "S B A"], Float[Tensor, "S B"]]:
        """What the actor does, and its value by the first critic; gradients reach the actor."""
        networks = self.networks
        action = networks.actor(networks.actor.encode(batch.observation))
        seen = networks.read(networks.critic_encoder, batch.observation).detach()
        q = networks.critic(torch.cat([seen, action], -1), member=0)
        return action, q[..., 0]

    def policy(self) -> DeterministicPolicy:
        """The policy being learnt."""
        policy: DeterministicPolicy = self.networks.actor
        return policy

    @torch.no_grad()
    def predict(
        self, observation: Observation, action: Float[Tensor, "S N A"]
    ) -> dict[str, Float[Tensor, "S N"]]:
        """The least Q of the policy's action in each state, and that of the action given."""
        values: dict[str, Tensor] = self.networks.least_values(observation, action)
        return values

    def state_dict(self) -> dict[str, Any]:
        """Networks, targets, optimiser and clocks, and the metrics of the actor's last step."""
        return super().state_dict() | {
            "updates": self.updates,
            "random_steps": self.policy().random_steps,
            "of_actor": self._of_actor,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.updates = state["updates"]
        self.policy().random_steps = state["random_steps"]
        self._of_actor = {name: value.to(self.device) for name, value in state["of_actor"].items()}

    def start_from(self, state: dict[str, Any], rows: Sequence[int], *, only_actor: bool) -> None:
        """Copy the networks of another TD3's state; the actor's target comes with the actor."""
        super().start_from(state, rows, only_actor=only_actor)
        if only_actor:
            self.networks.copy_actor()

    @torch.no_grad()
    def _target(self, batch: TransitionBatch, draws: Draws) -> Float[Tensor, "S B"]:
        """r + discount·min Q'(s', a'), where a' is the target's action with clipped noise.

        A rule of who acts may mix it with the guide's action or put that in its place.
        """
        o, networks = self.options, self.networks
        noise = o.target_noise * draws["noise"]
        smooth = noise.clamp(-o.target_noise_clip, o.target_noise_clip)
        policy = networks.target_actor
        own = (policy(policy.encode(batch.next_observation)) + smooth).clamp(-1, 1)
        action, _ = self.bootstrap.choose(batch, own, draws)
        seen = networks.read(networks.target_encoder, batch.next_observation)
        q = networks.target_critic(torch.cat([seen, action], -1))[..., 0]
        reward = o.reward_scale * batch.reward + o.reward_shift
        return bootstrapped_target(reward, batch.discount, q.amin(1))
