"""Behaviour cloning: maximum likelihood of the dataset's actions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from jsrl.core.observations import Observation
from jsrl.core.protocols import Consumes, DataNeeds, Draws, Metrics, Phase
from jsrl.core.specs import BoxActions
from jsrl.core.streams import Streams
from jsrl.core.transitions import TransitionBatch
from jsrl.learners.augmentation import RandomShifts
from jsrl.learners.common import SeedOptimiser, copy_seeds, dropout_masks, masks_of
from jsrl.learners.gaussian_actor import actor_arguments, gaussian_actor
from jsrl.learners.losses import weighted_log_likelihood_loss
from jsrl.learners.options import LearnerInputs, learners
from jsrl.learners.robustness import AdversarialTraining, RobustOptions
from jsrl.networks.categorical import CategoricalPolicy
from jsrl.networks.layers import INITIALISATIONS
from jsrl.networks.policies import GaussianPolicy


@dataclass
class BCOptions(RobustOptions):
    """Of ``learner=bc``."""

    learns_online = False
    networks = ("actor",)
    acts_by = ("box", "discrete")


def make_actor(options: BCOptions, inputs: LearnerInputs) -> GaussianPolicy | CategoricalPolicy:
    """A Gaussian policy for real actions, a categorical one for choices; all parameters 0."""
    if isinstance(inputs.actions, BoxActions):
        return gaussian_actor(options, inputs)
    return CategoricalPolicy(**actor_arguments(options, inputs))


@learners.register("bc", BCOptions)
class BC:
    """Behaviour cloning for S seeds at once.

    Args:
        options: see ``BCOptions``.
        inputs: what every learner gets.
    """

    needs = DataNeeds(Consumes.TRANSITIONS, (("actor",),))

    def __init__(self, options: BCOptions, inputs: LearnerInputs) -> None:
        self.options = options
        self.device = inputs.device
        self.shifts = RandomShifts(options, inputs)
        self.adversary = AdversarialTraining(options, inputs)
        self.actor = make_actor(options, inputs)
        initialisation = INITIALISATIONS[options.initialisation]
        streams = inputs.streams.child("initialisation")
        self.actor.mlp.initialise(initialisation, streams, "actor")
        self.actor.observation_encoder.initialise(streams, "actor_encoder")
        self.actor.set_normaliser(inputs.observation_mean, inputs.observation_std)
        self.actor.to(self.device)
        self.optimiser = SeedOptimiser(
            {"actor": list(self.actor.parameters())}, options.learning_rate, len(inputs.streams)
        )

    def draws(self, streams: Streams) -> Draws:
        """Dropout masks ``[S, B, width]``, one a hidden layer, and shifts of images, if any."""
        o = self.options
        masks = dropout_masks(streams, o.hidden, o.batch_size, o.dropout, self.device)
        return masks | self.shifts.draws(streams)

    def start_phase(self, phase: Phase, updates: int) -> None:
        """The cosine decay belongs to the offline phase alone."""
        decays = phase is Phase.OFFLINE and self.options.actor_schedule == "cosine"
        self.optimiser.start_schedule("actor", updates if decays else 0)

    def update(self, batch: TransitionBatch, draws: Draws) -> Metrics:
        """One gradient step on the negative log-likelihood."""
        batch = self.shifts.apply(batch, draws)

        def loss_of(observation: Observation) -> Float[Tensor, " S"]:
            features = self.actor.encode(observation)
            log_prob = self.actor.log_prob(features, batch.action, masks_of(draws))
            return weighted_log_likelihood_loss(log_prob, torch.ones_like(log_prob))

        loss = self.adversary.loss(loss_of, batch.observation)
        self.optimiser.prepare("actor")
        self.optimiser.descend(loss, "actor")
        return {"loss/actor": loss.detach()}

    def policy(self) -> GaussianPolicy | CategoricalPolicy:
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
        copy_seeds(self.actor, state.get("actor", {}), rows)
