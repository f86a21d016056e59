"""A user's own learner: TD3 (Fujimoto et al. 2018) for S seeds, in what the package offers."""

import copy

import torch
from torch import Tensor, nn

from jsrl.networks import INITIALISATIONS, SeedMLP
from jsrl.types import Consumes, Phase


class DeterministicPolicy(nn.Module):
    def __init__(self, seeds, observation_size, action_size, hidden):
        super().__init__()
        self.mlp = SeedMLP((seeds,), observation_size, hidden, action_size)

    def forward(self, obs: Tensor) -> Tensor:
        return torch.tanh(self.mlp(obs))

    @torch.no_grad()
    def act(self, obs: Tensor, streams) -> Tensor:
        actions = self(obs)
        if streams is not None:
            actions = actions + 0.2 * streams.normal("action_noise", actions.shape[1:])
        return actions.clamp(-1, 1)


class TD3:
    consumes = Consumes.TRANSITIONS

    def __init__(
        self, streams, observation_size, action_size, batch_size, device, hidden=(32, 32), rate=3e-3
    ):
        self.noise_shape = (batch_size, action_size)
        self.actor = DeterministicPolicy(len(streams), observation_size, action_size, hidden)
        self.critic = SeedMLP((len(streams), 2), observation_size + action_size, hidden, 1)
        scheme, initial = INITIALISATIONS["pytorch"], streams.child("initialisation")
        self.actor.mlp.initialise(scheme, initial, "actor")
        self.critic.initialise(scheme, initial, "critic")
        self.targets = copy.deepcopy(nn.ModuleList([self.actor, self.critic]))
        self.actor_adam = torch.optim.Adam(self.actor.parameters(), rate)
        self.critic_adam = torch.optim.Adam(self.critic.parameters(), rate)
        self.updates = 0

    def draws(self, streams):
        return {"noise": streams.normal("target_noise", self.noise_shape)}

    def start_phase(self, phase: Phase, updates: int) -> None:
        """There is no schedule to restart."""

    def update(self, batch, draws):
        target_actor, target_critic = self.targets
        with torch.no_grad():
            noise = (0.2 * draws["noise"]).clamp(-0.5, 0.5)
            action = (target_actor(batch.next_observations) + noise).clamp(-1, 1)
            pair = torch.cat([batch.next_observations, action], -1)
            next_q = target_critic(pair).amin(1)[..., 0]
            target = batch.rewards + 0.9 * (1 - batch.terminated) * next_q
        q = self.critic(batch.observations_actions)[..., 0]
        critic_loss = (q - target.unsqueeze(1)).square().mean(-1).sum(-1)
        self._descend(self.critic_adam, critic_loss)
        self.updates += 1
        if self.updates % 2 == 0:
            pair = torch.cat([batch.observations, self.actor(batch.observations)], -1)
            self._descend(self.actor_adam, -self.critic(pair)[:, 0, :, 0].mean(-1))
            sources = nn.ModuleList([self.actor, self.critic])
            with torch.no_grad():
                for own, theirs in zip(
                    self.targets.parameters(), sources.parameters(), strict=True
                ):
                    own.lerp_(theirs, 0.02)
        return {"loss/critic": critic_loss.detach(), "value/q": q.detach().mean((1, 2))}

    def policy(self):
        return self.actor

    def state_dict(self):
        modules = nn.ModuleList([self.actor, self.critic, self.targets])
        adams = [self.actor_adam.state_dict(), self.critic_adam.state_dict()]
        return {"modules": modules.state_dict(), "adams": adams, "updates": self.updates}

    def load_state_dict(self, state):
        nn.ModuleList([self.actor, self.critic, self.targets]).load_state_dict(state["modules"])
        actor_adam, critic_adam = copy.deepcopy(state["adams"])
        self.actor_adam.load_state_dict(actor_adam)
        self.critic_adam.load_state_dict(critic_adam)
        self.updates = state["updates"]

    @staticmethod
    def _descend(adam, losses):
        adam.zero_grad()
        losses.sum().backward()
        adam.step()
