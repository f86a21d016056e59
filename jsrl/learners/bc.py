"""Behaviour cloning: maximum likelihood of the dataset's actions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from jsrl.activations import Activation
from jsrl.learners.common import SeedOptimiser, build_actor, copy_seeds, dropout_masks
from jsrl.losses import weighted_log_likelihood_loss
from jsrl.networks import INITIALISATIONS, GaussianPolicy
from jsrl.seeding import Streams
from jsrl.types import Batch, Consumes, Draws, Metrics, Phase


@dataclass(frozen=True)
class BCSettings:
    """As ``IQLSettings``, without critics."""

    hidden: Sequence[int] = (256, 256)
    activation: Activation = "relu"
    layer_norm: bool = False
    batch_size: int = 256
    learning_rate: float = 3e-4
    actor_schedule: str = "cosine"
    dropout: float = 0.0
    initialisation: str = "orthogonal"
    tanh_mean: bool = True
    log_std_range: Sequence[float] = (-5.0, 2.0)
    normalise_observations: bool = False
    online_action_clip: float = 1.0


class BC:
    """Behaviour cloning for S seeds at once; the arguments are those of ``IQL``."""

    consumes = Consumes.TRANSITIONS

    def __init__(
        self,
        streams: Streams,
        observation_size: int,
        action_size: int,
        settings: BCSettings,
        device: torch.device,
        observation_mean: Float[Tensor, " O"] | None = None,
        observation_std: Float[Tensor, " O"] | None = None,
    ) -> None:
        self.settings = settings
        self.device = device
        self.actor = build_actor(len(streams), observation_size, action_size, settings)
        initialisation = INITIALISATIONS[settings.initialisation]
        self.actor.mlp.initialise(initialisation, streams.child("initialisation"), "actor")
        self.actor.set_normaliser(observation_mean, observation_std)
        self.actor.to(device)
        self.optimiser = SeedOptimiser(
            {"actor": list(self.actor.parameters())}, settings.learning_rate, len(streams)
        )

    def draws(self, streams: Streams) -> Draws:
        """Dropout masks ``[S, B, width]``, one a hidden layer; nothing without dropout."""
        s = self.settings
        return dropout_masks(streams, s.hidden, s.batch_size, s.dropout, self.device)

    def start_phase(self, phase: Phase, updates: int) -> None:
        """The cosine decay belongs to the offline phase alone."""
        decays = phase is Phase.OFFLINE and self.settings.actor_schedule == "cosine"
        self.optimiser.start_schedule("actor", updates if decays else 0)

    def update(self, batch: Batch, draws: Draws) -> Metrics:
        """One gradient step on the negative log-likelihood."""
        log_prob = self.actor.log_prob(batch.observations, batch.actions, list(draws.values()))
        loss = weighted_log_likelihood_loss(log_prob, torch.ones_like(log_prob))
        self.optimiser.prepare("actor")
        self.optimiser.descend(loss, "actor")
        return {"loss/actor": loss.detach()}

    def policy(self) -> GaussianPolicy:
        return self.actor

    def state_dict(self) -> dict[str, Any]:
        return {"actor": self.actor.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.actor.load_state_dict(state["actor"])
        self.optimiser.load_state_dict(state["optimiser"])

    @property
    def alive(self) -> Bool[Tensor, " S"]:
        """False for seeds that were frozen because their loss was not finite."""
        return self.optimiser.alive

    def start_from(self, state: dict[str, Any], rows: Sequence[int], *, only_actor: bool) -> None:
        """Copy the policy of another BC's state, seed by seed; the optimiser stays fresh."""
        copy_seeds(self.actor, state["actor"], rows)
