"""A second implementation of IQL, for one seed and as plainly as the paper writes it."""

import math

import torch
from torch import nn


class SeparateMLP(nn.Module):
    """One network out of the stacked ones, of PyTorch's own layers."""

    def __init__(self, state, prefix, place):
        super().__init__()
        names = [f"hidden_{i}" for i in range(2)] + ["output"]
        self.layers = nn.ModuleList()
        for name in names:
            weight = state[f"{prefix}{name}.weight"][place]
            layer = nn.Linear(*weight.shape)
            layer.weight.data.copy_(weight.mT)
            layer.bias.data.copy_(state[f"{prefix}{name}.bias"][place][0])
            self.layers.append(layer)

    def forward(self, x, masks=(None, None)):
        for layer, mask in zip(self.layers[:-1], masks, strict=True):
            x = torch.relu(layer(x))
            x = x if mask is None else x * mask
        return self.layers[-1](x)


class ReferenceIQL:
    """IQL of one seed as in the paper: separate networks, one Adam each, one update at a time."""

    def __init__(self, learner, index, updates):
        state, self.options = learner.networks.state_dict(), learner.options
        self.updates, self.clock = updates, 0
        self.value = SeparateMLP(state, "value.", index)
        self.actor = SeparateMLP(state, "actor.mlp.", index)
        self.critics = [SeparateMLP(state, "critic.", (index, k)) for k in range(2)]
        self.targets = [SeparateMLP(state, "target_critic.", (index, k)) for k in range(2)]
        self.log_std = nn.Parameter(state["actor.log_std"][index].clone())
        self.mean, self.std = 0.0, 1.0
        if self.options.normalise_observations:
            self.mean = state["actor.observation_mean"]
            self.std = state["actor.observation_std"]
        rate = self.options.learning_rate
        critic_parameters = [p for critic in self.critics for p in critic.parameters()]
        self.value_adam = torch.optim.Adam(self.value.parameters(), rate)
        self.critic_adam = torch.optim.Adam(critic_parameters, rate)
        self.actor_adam = torch.optim.Adam([*self.actor.parameters(), self.log_std], rate)

    def update(self, rows, masks):
        s = self.options
        obs = (rows.observation - self.mean) / self.std
        action = rows.action
        next_obs = (rows.next_observation - self.mean) / self.std
        reward = rows.reward * s.reward_scale + s.reward_shift
        not_terminated = 1 - rows.terminated
        pair = torch.cat([obs, action], 1)
        with torch.no_grad():
            q = torch.min(self.targets[0](pair), self.targets[1](pair))[:, 0]
            old_v, old_next_v = self.value(obs)[:, 0], self.value(next_obs)[:, 0]
        u = q - self.value(obs)[:, 0]
        self.descend(self.value_adam, ((s.expectile - (u < 0).float()).abs() * u**2).mean())
        with torch.no_grad():
            new_v, new_next_v = self.value(obs)[:, 0], self.value(next_obs)[:, 0]
        v, next_v = (new_v, new_next_v) if s.value_first else (old_v, old_next_v)
        self.update_actor(obs, action, torch.exp(s.temperature * (q - v)).clamp(max=100.0), masks)
        target = reward + s.discount * not_terminated * next_v
        losses = [((critic(pair)[:, 0] - target) ** 2).mean() for critic in self.critics]
        share = 1.0 if s.critic_reduction == "sum" else 0.5
        self.descend(self.critic_adam, share * (losses[0] + losses[1]))
        with torch.no_grad():
            for critic, follower in zip(self.critics, self.targets, strict=True):
                for p, t in zip(critic.parameters(), follower.parameters(), strict=True):
                    t.copy_((1 - s.target_rate) * t + s.target_rate * p)

    def update_actor(self, obs, action, weights, masks):
        s = self.options
        if s.actor_schedule == "cosine":
            share = 0.5 * (1 + math.cos(math.pi * self.clock / self.updates))
            self.actor_adam.param_groups[0]["lr"] = s.learning_rate * share
        self.clock += 1
        mean = self.actor(obs, masks)
        mean = torch.tanh(mean) if s.tanh_mean else mean
        std = self.log_std.clamp(*s.log_std_range).exp()
        log_prob = torch.distributions.Normal(mean, std).log_prob(action).sum(1)
        self.descend(self.actor_adam, -(weights * log_prob).mean())

    @staticmethod
    def descend(adam, loss):
        adam.zero_grad()
        loss.backward()
        adam.step()

    def assert_same_parameters(self, networks, index):
        """Compare every parameter with the stacked ones."""
        pairs = [("value.", index, self.value), ("actor.mlp.", index, self.actor)]
        pairs += [("critic.", (index, k), self.critics[k]) for k in range(2)]
        pairs += [("target_critic.", (index, k), self.targets[k]) for k in range(2)]
        state = networks.state_dict()
        for prefix, place, net in pairs:
            stacked = SeparateMLP(state, prefix, place)
            for ours, theirs in zip(stacked.parameters(), net.parameters(), strict=True):
                torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
        log_std = state["actor.log_std"][index]
        torch.testing.assert_close(log_std, self.log_std.detach(), atol=1e-5, rtol=1e-5)
