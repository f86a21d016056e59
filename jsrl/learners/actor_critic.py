"""What learners with an actor and critics share: networks, what each of them reads, targets."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from jsrl.core.observations import Observation
from jsrl.core.streams import Streams
from jsrl.core.transitions import TransitionBatch
from jsrl.learners.common import SeedOptimiser, copy_seeds
from jsrl.learners.options import LearnerInputs
from jsrl.networks.encoders.encoder import EncoderOptions, encoder_options
from jsrl.networks.encoders.observation import ObservationEncoder
from jsrl.networks.layers import INITIALISATIONS, SeedMLP
from jsrl.networks.mlp_policy import MlpPolicy


class ActorCriticNetworks(nn.Module):
    """An actor, K critics of each seed, and the target critics that follow them.

    Images are read by encoders: with ``encoder.shared`` actor and critics have the same
    convolutions, which learn from the critics' loss alone (Kostrikov, Yarats and Fergus 2020, arXiv
    2004.13649, appendix B); the layers behind are each network's own.

    Args:
        actor: the policy, all parameters 0.
        inputs: of the learner.
        hidden: widths of the critics' hidden layers.
        encoder: of images; the kind none without.
        critics: K.
    """

    def __init__(
        self,
        actor: MlpPolicy,
        inputs: LearnerInputs,
        hidden: Sequence[int],
        encoder: EncoderOptions,
        critics: int,
    ) -> None:
        super().__init__()
        self.inputs = inputs
        self._options = encoder_options(encoder)
        self.actor = actor
        self.critic_encoder = self.make_encoder()
        self.target_encoder = self.make_encoder()
        seeds, layers = len(inputs.streams), inputs.layers.critic
        pair = self.critic_encoder.size + inputs.actions.size
        critic = (pair, hidden, 1, layers.activation, layers.layer_norm)
        self.critic = SeedMLP((seeds, critics), *critic)
        self.target_critic = SeedMLP((seeds, critics), *critic)
        self.share_convolutions(actor.observation_encoder)

    def make_encoder(self) -> ObservationEncoder:
        """A further encoder of what the environment observes."""
        observation = self.inputs.observation
        return ObservationEncoder(
            self._options, len(self.inputs.streams), observation.size, observation.image_shapes
        )

    def share_convolutions(self, encoder: ObservationEncoder) -> None:
        """Let an encoder read the critics' convolutions, if the options ask for that."""
        if self._options is not None and self._options.shared:
            encoder.borrow(self.critic_encoder)

    def initialise(self, scheme: str, streams: Streams) -> None:
        """Draw all parameters; the targets begin as copies of the critics."""
        initialisation = INITIALISATIONS[scheme]
        self.actor.mlp.initialise(initialisation, streams, "actor")
        self.critic.initialise(initialisation, streams, "critic")
        self.critic_encoder.initialise(streams, "critic_encoder")
        self.actor.observation_encoder.initialise(streams, "actor_encoder")
        for target, source in (
            (self.target_critic, self.critic),
            (self.target_encoder, self.critic_encoder),
        ):
            target.load_state_dict(source.state_dict())
            target.requires_grad_(False)

    def critic_parameters(self) -> list[nn.Parameter]:
        """Those that the critics' loss trains."""
        return [*self.critic.parameters(), *self.critic_encoder.parameters()]

    def followed_parameters(self) -> list[nn.Parameter]:
        """Those that targets follow."""
        return self.critic_parameters()

    def trained_groups(self) -> dict[str, list[nn.Parameter]]:
        """What an optimiser trains, by the names of the networks."""
        return {"critic": self.critic_parameters(), "actor": self.actor.trained_parameters()}

    def target_parameters(self) -> list[nn.Parameter]:
        """Those that follow ``followed_parameters``, in the same order."""
        return [*self.target_critic.parameters(), *self.target_encoder.parameters()]

    def read(self, encoder: ObservationEncoder, observation: Observation) -> Float[Tensor, "S B F"]:
        """The features that a network behind ``encoder`` reads."""
        vector = self.actor.normalise(observation.vector)
        if not encoder.images and not observation.images:
            return vector
        features: Tensor = encoder(vector, observation.images)
        return features

    def pairs(self, encoder: ObservationEncoder, batch: TransitionBatch) -> Tensor:
        """The features of what was seen, with what was done in it behind them."""
        if not encoder.images and not self.actor.normalise_observations:
            return batch.vector_action()
        return torch.cat([self.read(encoder, batch.observation), batch.action], -1)

    @torch.no_grad()
    def q_values(
        self, observation: Observation, action: Float[Tensor, "S N A"]
    ) -> Float[Tensor, "S K N"]:
        """Q(s, a) of each of the K critics."""
        return self.differentiable_values(observation, action)

    def differentiable_values(
        self, observation: Observation, action: Float[Tensor, "S N A"]
    ) -> Float[Tensor, "S K N"]:
        """Q(s, a) of each of the K critics, with gradients."""
        features = self.read(self.critic_encoder, observation)
        q: Tensor = self.critic(torch.cat([features, action], -1))
        return q[..., 0]

    @torch.no_grad()
    def target_values(
        self, observation: Observation, action: Float[Tensor, "S N A"]
    ) -> Float[Tensor, "S K N"]:
        """Q(s, a) of each of the K target critics."""
        features = self.read(self.target_encoder, observation)
        q: Tensor = self.target_critic(torch.cat([features, action], -1))
        return q[..., 0]

    def least_values(
        self, observation: Observation, action: Float[Tensor, "S N A"]
    ) -> dict[str, Float[Tensor, "S N"]]:
        """The least Q of what the policy would do without noise, and of the action given."""
        best = self.q_values(observation, self.actor.mode(observation))
        return {"value": best.amin(1), "critic": self.q_values(observation, action).amin(1)}


class ActorCritic:
    """What learners with such networks do alike.

    Args:
        networks: drawn, and where they are trained.
        optimiser: of their parameters.
        target_rate: by which share the targets follow in an update.
    """

    def __init__(
        self, networks: ActorCriticNetworks, optimiser: SeedOptimiser, target_rate: float
    ) -> None:
        self.networks: Any = networks
        self.optimiser = optimiser
        self._target_rate = target_rate
        self._targets: list[Tensor] = list(networks.target_parameters())
        self._sources: list[Tensor] = list(networks.followed_parameters())
        self._trains_actor = True

    def follow(self) -> None:
        """Move the targets towards the critics."""
        with torch.no_grad():
            torch._foreach_lerp_(self._targets, self._sources, self._target_rate)

    def state_dict(self) -> dict[str, Any]:
        """Networks, targets, optimiser and schedules."""
        return {
            "networks": self.networks.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "trains_actor": self._trains_actor,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where ``state_dict`` was taken."""
        self.networks.load_state_dict(state["networks"])
        self.optimiser.load_state_dict(state["optimiser"])
        self._trains_actor = state["trains_actor"]

    def differentiable_values(
        self, observation: Observation, action: Float[Tensor, "S N A"]
    ) -> Float[Tensor, "S K N"]:
        """Q(s, a) of each of the K critics, with gradients."""
        values: Tensor = self.networks.differentiable_values(observation, action)
        return values

    def twin_values(
        self, observation: Observation, action: Float[Tensor, "S N A"]
    ) -> Float[Tensor, "S K N"]:
        """Q(s, a) of each of the K critics."""
        values: Tensor = self.networks.q_values(observation, action)
        return values

    def target_values(
        self, observation: Observation, action: Float[Tensor, "S N A"]
    ) -> Float[Tensor, "S K N"]:
        """Q(s, a) of each of the K target critics."""
        values: Tensor = self.networks.target_values(observation, action)
        return values

    @property
    def alive(self) -> Bool[Tensor, " S"]:
        """False for seeds that were frozen because their loss was not finite."""
        return self.optimiser.alive

    def start_from(self, state: dict[str, Any], rows: Sequence[int], *, only_actor: bool) -> None:
        """Copy the networks of another learner of this kind; the optimiser stays fresh.

        Args:
            state: from ``state_dict`` of a learner of the same sizes.
            rows: for each seed of this learner, its place among those of ``state``.
            only_actor: copy the actor alone, and leave critics and targets as they are (naive
                initialisation); but convolutions that the actor shares with the critics come with
                it, and the targets' follow.
        """
        if only_actor:
            networks = state.get("networks", {})
            copy_seeds(self.networks.actor, networks, rows, prefix="actor.", start="naive")
            encoder = self.networks.critic_encoder
            self.networks.target_encoder.load_state_dict(encoder.state_dict())
        else:
            copy_seeds(self.networks, state.get("networks", {}), rows)
