"""A second implementation of TD3 and TD3+BC: one seed, PyTorch's optimiser, float64."""

import torch
from minibatches import one_seed


class PlainTD3:
    """One seed of a learner, from the parameters that it has when this is made."""

    def __init__(self, learner, index, alpha=None):
        self.options, self.learner, self.index, self.alpha = learner.options, learner, index, alpha
        self.behaviour = 1.0
        self.own = self.copies("actor.", "critic.")
        self.targets = self.copies("target_actor.", "target_critic.")
        self.adams = {
            part: torch.optim.Adam(
                [p.requires_grad_() for name, p in self.own.items() if name.startswith(part)],
                self.options.learning_rate,
            )
            for part in ("actor", "critic")
        }
        self.count, self.told = 0, {}

    def copies(self, *prefixes):
        return {
            name.removeprefix("target_"): value[self.index].detach().double().clone()
            for name, value in self.learner.networks.named_parameters()
            if name.startswith(prefixes)
        }

    def see(self, obs):
        actor = self.learner.networks.actor
        if not self.options.normalise_observations:
            return obs
        return (obs - actor.observation_mean.double()) / actor.observation_std.double()

    def mlp(self, x, parameters, prefix):
        for i in range(len(self.options.hidden)):
            weight, bias = (parameters[f"{prefix}hidden_{i}.{n}"] for n in ("weight", "bias"))
            x = torch.relu(x @ weight + bias)
        return x @ parameters[f"{prefix}output.weight"] + parameters[f"{prefix}output.bias"]

    def act(self, obs, parameters):
        return torch.tanh(self.mlp(self.see(obs), parameters, "actor.mlp."))

    def q(self, obs, action, parameters):
        return self.mlp(torch.cat([self.see(obs), action], -1), parameters, "critic.")[..., 0]

    def update(self, batch, noise):
        """The metrics of the update, and of the actor's last one."""
        o, rows = self.options, one_seed(batch, self.index, torch.float64)
        with torch.no_grad():
            noise = torch.clip(
                noise[self.index].double() * o.target_noise,
                -o.target_noise_clip,
                o.target_noise_clip,
            )
            after = torch.clip(self.act(rows.next_observation, self.targets) + noise, -1, 1)
            q = self.q(rows.next_observation, after, self.targets).min(0).values
            reward = o.reward_scale * rows.reward + o.reward_shift
            target = reward + o.discount * (1 - rows.terminated) * q
        q = self.q(rows.observation, rows.action, self.own)
        loss = sum(torch.nn.functional.mse_loss(one, target) for one in q)
        self.step("critic", loss)
        told = {"loss/critic": loss.detach(), "value/q": q.mean().detach()}
        self.count += 1
        if self.count % o.policy_delay == 0:
            self.step("actor", self.actor_loss(rows))
            for name, target in self.targets.items():
                target.mul_(1 - o.target_rate).add_(o.target_rate * self.own[name].detach())
        return told | self.told

    def actor_loss(self, rows):
        action = self.act(rows.observation, self.own)
        q = self.q(rows.observation, action, self.own)[0]
        loss = -q.mean()
        if self.alpha is not None:
            clone = torch.nn.functional.mse_loss(action, rows.action)
            loss = self.alpha / q.abs().mean().item() * loss + self.behaviour * clone
            self.told["loss/behaviour"] = clone.detach()
        self.told["loss/actor"] = loss.detach()
        return loss

    def step(self, part, loss):
        mine = self.adams[part].param_groups[0]["params"]
        for parameter, gradient in zip(mine, torch.autograd.grad(loss, mine), strict=True):
            parameter.grad = gradient
        self.adams[part].step()

    def assert_same_parameters(self):
        own, targets = self.copies("actor.", "critic."), self.copies("target_")
        for found, expected in ((own, self.own), (targets, self.targets)):
            assert found.keys() == expected.keys()
            for name, value in found.items():
                torch.testing.assert_close(value, expected[name].detach(), rtol=1e-5, atol=1e-6)
