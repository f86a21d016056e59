"""Learners of a user's own that learn nothing, with the package's policy or one derived from it."""

import torch

from jsrl.core.protocols import Consumes, DataNeeds, Phase
from jsrl.networks.layers import INITIALISATIONS
from jsrl.networks.policies import GaussianPolicy


class Derived(GaussianPolicy):
    """Acts otherwise than the class that it is derived from."""

    def act(self, obs, streams):
        return -super().act(obs, streams)


class WithGaussian:
    needs = DataNeeds(Consumes.TRANSITIONS, (("actor",),))
    kind = GaussianPolicy

    def __init__(self, streams, observation_size, action_size, batch_size, device):
        self._policy = self.kind(len(streams), observation_size, action_size, (8,))
        self._policy.mlp.initialise(INITIALISATIONS["orthogonal"], streams, "actor")

    def draws(self, streams):
        return {}

    def start_phase(self, phase: Phase, updates: int) -> None:
        """There is no schedule."""

    def update(self, batch, draws):
        return {"loss/none": torch.zeros(len(batch.reward))}

    def policy(self):
        return self._policy

    def state_dict(self):
        return {"policy": self._policy.state_dict()}

    def load_state_dict(self, state):
        self._policy.load_state_dict(state["policy"])


class WithDerived(WithGaussian):
    kind = Derived
