"""Proximal policy optimisation with the clipped objective (Schulman et al. 2017, arXiv 1707.06347).

Real actions are drawn from a Gaussian whose standard deviation is the same in all states, and
clipped for the environment alone: the probability is that of what was drawn. Choices are drawn from
a categorical distribution.

With a guide it is Jump-Start RL for on-policy learners: the steps of the guide are no samples of
the policy, and take no part in losses, in the normalisation of advantages, or in metrics. The
advantages of the steps behind them are whole even so, since an advantage depends on later steps
alone. What was observed in them counts for the statistics of ``normalise_observations`` even so,
since the policy observes it, too, once the guide is gone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.protocols import Consumes, DataNeeds, Draws, Metrics, Phase
from jsrl.core.ranges import at_least
from jsrl.core.rollouts import ExploringStep, RolloutBatch
from jsrl.core.specs import BoxActions, EnvSpec
from jsrl.core.streams import Streams
from jsrl.learners.common import copy_seeds
from jsrl.learners.losses import clipped_surrogate_loss, normalised_advantages, weighted_mean
from jsrl.learners.options import LearnerInputs, OnPolicyOptions, check_log_std_range, learners
from jsrl.learners.running_statistics import RunningStatistics
from jsrl.learners.seedwise_adam import SeedwiseAdam
from jsrl.networks.categorical import CategoricalPolicy
from jsrl.networks.encoders.encoder import encoder_options
from jsrl.networks.encoders.observation import ObservationEncoder
from jsrl.networks.layers import INITIALISATIONS, Initialisation, SeedMLP, orthogonal
from jsrl.networks.policies import GaussianPolicy

OBSERVATION_CLIP = 10.0
"""Normalised observations are clipped to ± this, as the 37 implementation details have it."""


@dataclass
class PPOOptions(OnPolicyOptions):
    """Of ``learner=ppo``.

    The defaults are those of Schulman et al. 2017, table 3, where it has them, and beyond it those
    that public implementations agree on (Huang et al. 2022, "The 37 implementation details of
    proximal policy optimization"); only the activation is that of the group ``activation``.
    """

    hidden: list[int] = field(default_factory=lambda: [64, 64])
    # Steps of each seed over which the learning rate falls to 0 along a line; null: it stays.
    learning_rate_steps: int | None = None
    # What Adam adds to the root of the average of squared gradients.
    adam_epsilon: float = 1e-5
    # Of the weights: orthogonal (0.01 of the policy's output, 1 of the value's), pytorch or
    # variance_scaling.
    initialisation: str = "orthogonal"
    # Whether the policy's mean passes a tanh.
    tanh_mean: bool = False
    # [low, high] of the policy's log standard deviation.
    log_std_range: list[float] = field(default_factory=lambda: [-20.0, 2.0])
    # By how much the ratio of probabilities may differ from 1 to any advantage.
    clip: float = 0.2
    # Whether advantages are normalised in each minibatch.
    normalise_advantages: bool = True
    # Weight of the policy's entropy, which is kept large, in the loss.
    entropy_coefficient: float = 0.0
    # Weight of the squared error of the value in the loss.
    value_coefficient: float = 0.5
    # Gradients of each seed are scaled down to this norm, over all its networks; null: not at all.
    largest_gradient_norm: float | None = 0.5
    # Whether networks see vectors normalised by the mean and spread of all that the seed has
    # observed before the present rollout, also while a guide acted, and clipped to ±10. In the
    # first rollout they are as they are.
    normalise_observations: bool = False

    networks = ("actor", "value")
    acts_by = ("box", "discrete")

    def check(self) -> None:
        super().check()
        check_log_std_range(self.log_std_range)
        for name in ("adam_epsilon", "clip", "largest_gradient_norm"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"learner.{name}={value} must be above 0")
        for name in ("entropy_coefficient", "value_coefficient"):
            at_least(f"learner.{name}", getattr(self, name), 0)
        if self.learning_rate_steps is not None:
            at_least("learner.learning_rate_steps", self.learning_rate_steps, 1)
        encoder = encoder_options(self.encoder)
        if encoder is not None and encoder.shift > 0:
            raise UserError(
                f"learner.encoder.shift={encoder.shift} changes what the policy saw when it acted, "
                "on which the ratio of learner=ppo depends; set learner.encoder.shift=0"
            )

    def check_environment(self, spec: EnvSpec) -> None:
        super().check_environment(spec)
        if self.normalise_observations and not spec.observation.size:
            raise UserError(
                f"learner.normalise_observations=true is about vectors, and env.id={spec.id!r} "
                "has images alone, which are left as they are; set "
                "learner.normalise_observations=false"
            )


class PPONetworks(nn.Module):
    """A policy, which draws real actions or choices, and V, for S seeds.

    With ``encoder.shared`` both read the same convolutions of images, which learn from V's loss
    alone, as with the other learners.
    """

    actor: GaussianPolicy | CategoricalPolicy

    def __init__(self, options: PPOOptions, inputs: LearnerInputs) -> None:
        super().__init__()
        seeds, observed, layers = len(inputs.streams), inputs.observation, inputs.layers
        sizes = (seeds, observed.size, inputs.actions.size, options.hidden)
        follows = (layers.actor.activation, layers.actor.layer_norm)
        seen: dict[str, Any] = {"images": observed.image_shapes, "encoder": options.encoder}
        if options.normalise_observations:
            seen |= {"normalise_observations": True, "statistics_by_seed": True}
            seen["observation_clip"] = OBSERVATION_CLIP
        if isinstance(inputs.actions, BoxActions):
            self.actor = GaussianPolicy(
                *sizes,
                *follows,
                tanh_mean=options.tanh_mean,
                log_std_range=options.log_std_range,
                **seen,
            )
        else:
            self.actor = CategoricalPolicy(*sizes, *follows, **seen)
        encoder = encoder_options(options.encoder)
        self.value_encoder = ObservationEncoder(
            encoder, seeds, observed.size, observed.image_shapes
        )
        if encoder is not None and encoder.shared:
            self.actor.observation_encoder.borrow(self.value_encoder)
        self.value = SeedMLP(
            (seeds,),
            self.value_encoder.size,
            options.hidden,
            1,
            layers.value.activation,
            layers.value.layer_norm,
        )

    def initialise(self, scheme: str, streams: Streams) -> None:
        """Draw all parameters."""
        self.actor.mlp.initialise(_scheme(scheme, 0.01), streams, "actor")
        self.value.initialise(_scheme(scheme, 1.0), streams, "value")
        self.value_encoder.initialise(streams, "value_encoder")
        self.actor.observation_encoder.initialise(streams, "actor_encoder")

    def v(self, observation: Observation) -> Float[Tensor, "S B"]:
        """V(s), of vectors in the units of the policy."""
        features = self.actor.normalise(observation.vector)
        if self.value_encoder.images or observation.images:
            features = self.value_encoder(features, observation.images)
        values: Tensor = self.value(features)
        return values[..., 0]


@learners.register("ppo", PPOOptions)
class PPO:
    """Proximal policy optimisation for S seeds at once.

    Args:
        options: see ``PPOOptions``.
        inputs: what every learner gets.
    """

    def __init__(self, options: PPOOptions, inputs: LearnerInputs) -> None:
        self.options = options
        self.needs = DataNeeds(Consumes.ROLLOUTS, (("actor", "value"),), discount=options.discount)
        self.rollouts = options.rollouts()
        self.networks = PPONetworks(options, inputs)
        self.networks.initialise(options.initialisation, inputs.streams.child("initialisation"))
        self.networks.to(inputs.device)
        self.optimiser = SeedwiseAdam(
            list(self.networks.parameters()), options.adam_epsilon, options.largest_gradient_norm
        )
        self.updates = 0
        self.observed: RunningStatistics | None = None
        if options.normalise_observations:
            seeds, size = len(inputs.streams), inputs.observation.size
            self.observed = RunningStatistics(seeds, size, inputs.device)

    def explore(self, obs: Observation, streams: Streams) -> ExploringStep:
        """Actions that are drawn, their log-probabilities before they are clipped, and V."""
        sample, log_prob = self.networks.actor.draw(obs, streams, "action_noise")
        action = self.networks.actor.clip(sample)
        return ExploringStep(action, sample, log_prob, self.values(obs))

    @torch.no_grad()
    def values(self, obs: Observation) -> Float[Tensor, "S E"]:
        """V(s)."""
        return self.networks.v(obs)

    def draws(self, streams: Streams) -> Draws:
        """Nothing: an update is not random."""
        return {}

    def start_phase(self, phase: Phase, updates: int) -> None:
        """There is online learning alone, and the learning rate goes by ``learning_rate_steps``."""

    @property
    def learning_rate(self) -> float:
        """Of the next minibatch."""
        o = self.options
        if o.learning_rate_steps is None:
            return o.learning_rate
        learnt_from = self.updates * o.batch_size / o.epochs
        return o.learning_rate * max(0.0, 1 - learnt_from / o.learning_rate_steps)

    def update(self, batch: RolloutBatch, draws: Draws) -> Metrics:
        """One gradient step for the seeds that have a step of their own policy in the minibatch."""
        weight, counts = batch.weight, batch.weight.any(-1)
        metrics, loss = self.losses(batch)
        metrics["gradient/norm"] = self.optimiser.descend(loss, self.learning_rate, counts)
        self.updates += 1
        own = {n: torch.where(counts, value.detach(), math.nan) for n, value in metrics.items()}
        return own | {"policy/guide_share": 1 - weight.mean(-1)}

    def after_rollout(self, observation: Observation) -> None:
        """Normalise by what this rollout was like, too, from the next one on.

        Within a rollout and its updates the statistics stay, so that a policy that has not learnt
        yet gives what was drawn the probability that it was drawn with. A seed that is frozen keeps
        its statistics, and one whose statistics would not be finite is frozen.
        """
        if self.observed is not None:
            self.optimiser.alive &= self.observed.add(observation.vector, self.optimiser.alive)
            self.networks.actor.set_normaliser(*self.observed.normaliser())

    def losses(self, batch: RolloutBatch) -> tuple[Metrics, Float[Tensor, " S"]]:
        """The parts of the loss, what is told beside them, and the loss (equation 9)."""
        o, networks, weight = self.options, self.networks, batch.weight
        features = networks.actor.encode(batch.observation)
        log_prob, entropy = networks.actor.log_prob_and_entropy(features, batch.action)
        value = networks.v(batch.observation)
        # What weighs nothing is 0 before anything is made of it: 0 times infinity is not 0.
        log_ratio = torch.where(weight > 0, log_prob - batch.log_prob, 0.0)
        error = torch.where(weight > 0, value - batch.value_target, 0.0)
        advantage = torch.where(weight > 0, batch.advantage, 0.0)
        if o.normalise_advantages:
            advantage = normalised_advantages(advantage, weight)
        metrics = {
            "loss/actor": clipped_surrogate_loss(log_ratio, advantage, weight, o.clip),
            "loss/value": weighted_mean(error.square(), weight),
            "policy/entropy": weighted_mean(entropy, weight),
        }
        loss = (
            metrics["loss/actor"]
            + o.value_coefficient * metrics["loss/value"]
            - o.entropy_coefficient * metrics["policy/entropy"]
        )
        change = log_ratio.detach()
        moved = (change.expm1().abs() > o.clip).to(weight.dtype)
        return metrics | {
            "value/v": weighted_mean(value.detach(), weight),
            "advantage/mean": weighted_mean(batch.advantage, weight),
            # Of the policy that acted from the present one, k3 of Schulman 2020, "Approximating KL
            # divergence": its terms are at least 0.
            "policy/divergence": weighted_mean(change.expm1() - change, weight),
            "policy/clipped": weighted_mean(moved, weight),
        }, loss

    def policy(self) -> GaussianPolicy | CategoricalPolicy:
        """The policy being learnt."""
        return self.networks.actor

    @torch.no_grad()
    def predict(
        self, observation: Observation, action: Shaped[Tensor, "S N *A"]
    ) -> dict[str, Float[Tensor, "S N"]]:
        """V of states."""
        return {"value": self.networks.v(observation)}

    def state_dict(self) -> dict[str, Any]:
        """Networks, optimiser, statistics, and the number of updates, which the rate goes by."""
        state = {
            "networks": self.networks.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "updates": self.updates,
        }
        if self.observed is not None:
            state["observed"] = self.observed.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where ``state_dict`` was taken."""
        self.networks.load_state_dict(state["networks"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.updates = state["updates"]
        if self.observed is not None:
            self.observed.load_state_dict(state["observed"])

    @property
    def alive(self) -> Bool[Tensor, " S"]:
        """False for seeds that were frozen because their loss was not finite."""
        return self.optimiser.alive

    def start_from(self, state: dict[str, Any], rows: Sequence[int], *, only_actor: bool) -> None:
        """Copy the networks of another PPO and its statistics; the optimiser stays fresh.

        Args:
            state: from ``state_dict`` of a learner of the same sizes.
            rows: for each seed of this learner, its place among those of ``state``.
            only_actor: copy the policy alone, and leave V as it is (naive initialisation); but
                convolutions that the policy shares with V come with it.
        """
        networks = state.get("networks", {})
        if only_actor:
            copy_seeds(self.networks.actor, networks, rows, prefix="actor.", start="naive")
        else:
            copy_seeds(self.networks, networks, rows)
        if self.observed is not None:
            self.observed.load_state_dict(state["observed"], rows)


def _scheme(name: str, gain: float) -> Initialisation:
    """The initialisation of this name; an orthogonal output layer has the gain that is given."""
    if name != "orthogonal":
        return INITIALISATIONS[name]
    return Initialisation(orthogonal(math.sqrt(2)), orthogonal(gain), uniform_bias=False)
