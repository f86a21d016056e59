"""Advantage weighted actor-critic, AWAC (Nair et al. 2020, arXiv 2006.09359)."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.protocols import Draws, Metrics, Phase
from jsrl.core.ranges import above_zero, at_least, one_of
from jsrl.core.streams import Streams
from jsrl.core.transitions import TransitionBatch
from jsrl.learners.actor_critic import ActorCritic, ActorCriticNetworks
from jsrl.learners.augmentation import RandomShifts
from jsrl.learners.bootstrap import Bootstrap, BootstrapsByRule
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
    softmax_weights,
    squared_td_error,
    weighted_log_likelihood_loss,
)
from jsrl.learners.options import ActorOptions, LearnerInputs, NStepOptions, learners
from jsrl.networks.policies import GaussianPolicy

LARGEST_WEIGHT = 100.0
"""At which exponential weights are clipped where the options do not say."""


@dataclass
class AWACOptions(NStepOptions, ActorOptions):
    """Of ``learner=awac``, with the choices in which public implementations differ.

    The defaults are those of the authors' code for MuJoCo, where jaxrl and d3rlpy agree with it.
    What it has beside these is left out: it decays the actor's weights by 1e-4, its actor has twice
    as many hidden layers as its critics, and its minibatches have 1,024 transitions.
    """

    initialisation: str = "orthogonal"
    # [low, high] of the policy's log standard deviation.
    log_std_range: list[float] = field(default_factory=lambda: [-6.0, 0.0])
    # The actor's learning rate in pre-training: constant, or cosine, down to 0.
    actor_schedule: str = "constant"
    # How many critics there are, of which the least counts.
    critics: int = 2
    # By which advantages are divided: λ of the paper's equation 13.
    advantage_temperature: float = 1.0
    # Weights of the actions: softmax, over the minibatch, whose mean is 1, as the authors' code,
    # jaxrl and d3rlpy have them; or exponential, as the equation and CORL have them.
    weights: str = "softmax"
    # At which exponential weights are clipped; null: 100. Softmax weights are not.
    largest_weight: float | None = None
    # Actions of the policy whose mean Q is V(s); 0: Q of its action without noise.
    value_samples: int = 1
    # Whether updates are compiled by torch.compile: faster after a minute or two.
    compile: bool = False

    neutral = (*NStepOptions.neutral, ("compile", False))
    networks = ("actor", "critic")

    def check(self) -> None:
        super().check()
        one_of("learner.weights", self.weights, ("softmax", "exponential"))
        at_least("learner.critics", self.critics, 1)
        at_least("learner.value_samples", self.value_samples, 0)
        above_zero("learner.advantage_temperature", self.advantage_temperature)
        if self.largest_weight is not None:
            above_zero("learner.largest_weight", self.largest_weight)
            if self.weights == "softmax":
                raise UserError(
                    f"learner.largest_weight={self.largest_weight} clips exponential weights, and "
                    "learner.weights=softmax; set learner.weights=exponential or leave it out"
                )


@learners.register("awac", AWACOptions)
class AWAC(BootstrapsByRule, ActorCritic):
    """AWAC for S seeds at once.

    Args:
        options: see ``AWACOptions``.
        inputs: what every learner gets.
    """

    def __init__(self, options: AWACOptions, inputs: LearnerInputs) -> None:
        self.options = options
        self.device = inputs.device
        self.action_size = inputs.actions.size
        self.needs = options.needs(("critic", "actor"))
        self.shifts = RandomShifts(options, inputs)
        self.bootstrap = Bootstrap(options.batch_size, self.device)
        networks = ActorCriticNetworks(
            gaussian_actor(options, inputs),
            inputs,
            options.hidden,
            options.encoder,
            options.critics,
        )
        networks.initialise(options.initialisation, inputs.streams.child("initialisation"))
        networks.actor.set_normaliser(inputs.observation_mean, inputs.observation_std)
        networks.to(self.device)
        optimiser = SeedOptimiser(
            networks.trained_groups(), options.learning_rate, len(inputs.streams)
        )
        super().__init__(networks, optimiser, options.target_rate)
        self._descend = compiled(self.descend) if options.compile else self.descend

    def draws(self, streams: Streams) -> Draws:
        """Noise of the policy's actions, dropout masks, and shifts of images, if any.

        ``next_noise`` is ``[S, B, A]``, and ``noise``, for V(s), ``[S, N·B, A]`` of N samples.
        """
        o = self.options
        drawn = {
            "next_noise": streams.normal("next_policy_noise", (o.batch_size, self.action_size))
        }
        if o.value_samples:
            shape = (o.value_samples * o.batch_size, self.action_size)
            drawn["noise"] = streams.normal("policy_noise", shape)
        drawn = {name: tensor.to(self.device, non_blocking=True) for name, tensor in drawn.items()}
        masks = dropout_masks(streams, o.hidden, o.batch_size, o.dropout, self.device)
        return drawn | masks | self.shifts.draws(streams) | self.bootstrap.draws(streams)

    def start_phase(self, phase: Phase, updates: int) -> None:
        """A decay of the actor's rate belongs to the offline phase; warm-up leaves it alone."""
        decays = phase is Phase.OFFLINE and self.options.actor_schedule == "cosine"
        self.optimiser.start_schedule("actor", updates if decays else 0)
        self._trains_actor = phase is not Phase.CRITIC_WARMUP

    def update(self, batch: TransitionBatch, draws: Draws) -> Metrics:
        """One step of the critics, of the actor by what they say then, and of the targets."""
        self.optimiser.prepare(*(("critic", "actor") if self._trains_actor else ("critic",)))
        return self._descend(self.shifts.apply(batch, draws), draws, self._trains_actor)

    def descend(self, batch: TransitionBatch, draws: Draws, trains_actor: bool) -> Metrics:
        """All of an update but the clocks: tensors in, tensors out, compiled as one."""
        networks = self.networks
        target = self._target(batch, draws)
        q = networks.critic(networks.pairs(networks.critic_encoder, batch))[..., 0]
        metrics: Metrics = {
            "loss/critic": squared_td_error(q, target, "sum"),
            "value/q": q.detach().mean((1, 2)),
        }
        self.optimiser.descend(metrics["loss/critic"], "critic")
        if trains_actor:
            advantage = self._advantage(batch, draws)
            weights = self._weights(advantage)
            metrics |= advantage_statistics(advantage, weights)
            features = networks.actor.encode(batch.observation)
            log_prob = networks.actor.log_prob(features, batch.action, masks_of(draws))
            metrics["loss/actor"] = weighted_log_likelihood_loss(log_prob, weights)
            self.optimiser.descend(metrics["loss/actor"], "actor")
        self.follow()
        return {name: value.detach() for name, value in metrics.items()}

    def policy(self) -> GaussianPolicy:
        """The policy being learnt."""
        policy: GaussianPolicy = self.networks.actor
        return policy

    @torch.no_grad()
    def predict(
        self, observation: Observation, action: Float[Tensor, "S N A"]
    ) -> dict[str, Float[Tensor, "S N"]]:
        """The least Q of the policy's mean in each state, and that of the action given."""
        values: dict[str, Tensor] = self.networks.least_values(observation, action)
        return values

    @torch.no_grad()
    def _target(self, batch: TransitionBatch, draws: Draws) -> Float[Tensor, "S B"]:
        """r + discount·min Q'(s', a'), where a' is a sample of the policy.

        A rule of who acts may mix it with the guide's action or put that in its place.
        """
        o, networks = self.options, self.networks
        own = self._act(batch.next_observation, draws["next_noise"])
        action, _ = self.bootstrap.choose(batch, own, draws)
        seen = networks.read(networks.target_encoder, batch.next_observation)
        q = networks.target_critic(torch.cat([seen, action], -1))[..., 0]
        reward = o.reward_scale * batch.reward + o.reward_shift
        return bootstrapped_target(reward, batch.discount, q.amin(1))

    @torch.no_grad()
    def _advantage(self, batch: TransitionBatch, draws: Draws) -> Float[Tensor, "S B"]:
        """min Q(s, a) - V(s), with V(s) of the policy as it is."""
        networks = self.networks
        seen = networks.read(networks.critic_encoder, batch.observation)
        action = self._act(batch.observation, draws.get("noise"))
        samples = action.shape[1] // seen.shape[1]
        pairs = torch.cat([seen.repeat(1, samples, 1), action], -1)
        of_policy = networks.critic(pairs)[..., 0].amin(1).unflatten(-1, (samples, -1))
        q = networks.critic(torch.cat([seen, batch.action], -1))[..., 0].amin(1)
        return q - of_policy.mean(1)

    def _act(
        self, observation: Observation, noise: Float[Tensor, "S NB A"] | None
    ) -> Float[Tensor, "S NB A"]:
        """The policy's clipped actions in each state, with so many samples as there is noise."""
        actor = self.networks.actor
        mean, log_std = actor(actor.encode(observation))
        if noise is not None:
            samples = noise.shape[1] // mean.shape[1]
            mean = mean.repeat(1, samples, 1) + log_std.exp() * noise
        return mean.clamp(-actor.action_clip, actor.action_clip)

    def _weights(self, advantage: Float[Tensor, "S B"]) -> Float[Tensor, "S B"]:
        o = self.options
        if o.weights == "softmax":
            return softmax_weights(advantage, o.advantage_temperature)
        largest = LARGEST_WEIGHT if o.largest_weight is None else o.largest_weight
        return advantage_weights(advantage, 1 / o.advantage_temperature, largest)
