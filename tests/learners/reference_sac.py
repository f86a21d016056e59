"""A second implementation of SAC, for one seed and as plainly as the paper writes it."""

import torch
from minibatches import one_seed
from torch.distributions import Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform

ACT = 2


class PlainSAC:
    """One seed of soft actor-critic in PyTorch's own layers, optimiser and distributions."""

    def __init__(self, learner, index):
        self.options, self.learner, self.index = learner.options, learner, index
        self.parameters = {
            name: value[index].detach().double().clone().requires_grad_()
            for name, value in learner.networks.named_parameters()
        }
        self.target = {
            name: value.detach().clone()
            for name, value in self.parameters.items()
            if name.startswith("critic.")
        }
        rate = self.options.learning_rate
        self.optimisers = {
            part: torch.optim.Adam(
                [p for name, p in self.parameters.items() if name.startswith(part)], rate
            )
            for part in ("actor", "critic", "log_temperature")
        }
        if self.options.actor_learning_rate is not None:
            for part in ("actor", "log_temperature"):
                self.optimisers[part].param_groups[0]["lr"] = self.options.actor_learning_rate

    def observe(self, obs):
        if not self.options.normalise_observations:
            return obs
        actor = self.learner.networks.actor
        return (obs - actor.observation_mean.double()) / actor.observation_std.double()

    def mlp(self, x, parameters, prefix):
        own = self.options.critic_hidden if prefix == "critic." else None
        for i in range(len(own or self.options.hidden)):
            weight, bias = (parameters[f"{prefix}hidden_{i}.{n}"] for n in ("weight", "bias"))
            x = torch.relu(x @ weight + bias)
        return x @ parameters[f"{prefix}output.weight"] + parameters[f"{prefix}output.bias"]

    def distribution(self, obs):
        out = self.mlp(self.observe(obs), self.parameters, "actor.mlp.")
        mean, log_std = out[:, :ACT], out[:, ACT:].clamp(*self.options.log_std_range)
        return mean, log_std

    def act(self, obs, noise):
        mean, log_std = self.distribution(obs)
        action = torch.tanh(mean + log_std.exp() * noise)
        said = TransformedDistribution(Normal(mean, log_std.exp()), TanhTransform(cache_size=1))
        return action, said.log_prob(action.clamp(-1 + 1e-12, 1 - 1e-12)).sum(-1)

    def q(self, obs, action, parameters):
        pair = torch.cat([self.observe(obs), action], -1)
        return self.mlp(pair, parameters, "critic.")[..., 0]

    def update(self, transitions, draws, critic_alone=False, actor_alone=False):
        o, i = self.options, self.index
        rows = one_seed(transitions, i, torch.float64)
        drawn = {name: value[i].double() for name, value in draws.items()}
        alpha = self.parameters["log_temperature"].detach().exp()
        if not critic_alone:
            action, log_prob = self.act(rows.observation, drawn["noise"])
            of_all = o.entropy_per_dimension * ACT
            entropy = of_all if o.target_entropy is None else o.target_entropy
            gap = (log_prob + entropy).detach()
            self.step("log_temperature", -(self.parameters["log_temperature"] * gap).mean())
        if not actor_alone:
            self.step("critic", self.critic_loss(rows, drawn, alpha))
        if not critic_alone:
            self.step("actor", self.actor_loss(rows, action, log_prob, alpha))
        if not actor_alone:
            for name, tensor in self.target.items():
                tensor.lerp_(self.parameters[name].detach(), o.target_rate)

    def critic_loss(self, rows, drawn, alpha):
        o = self.options
        with torch.no_grad():
            value = self.next_value(rows, drawn, alpha)
            reward = o.reward_scale * rows.reward + o.reward_shift
            target = reward + o.discount**o.n_step * (1 - rows.terminated) * value
        errors = self.q(rows.observation, rows.action, self.parameters) - target
        return (errors**2).mean(-1).sum()

    def next_value(self, rows, drawn, alpha):
        after, after_log_prob = self.act(rows.next_observation, drawn["next_noise"])
        q = self.q(rows.next_observation, after, self.target)
        if self.options.target_critics is not None:
            q = q[drawn["ranks"].argsort()[: self.options.target_critics]]
        least = q.min(0).values
        return least - alpha * after_log_prob if self.options.backup_entropy else least

    def actor_loss(self, rows, action, log_prob, alpha):
        of_action = self.q(rows.observation, action, self.parameters)
        over = self.options.target_critics is None
        best = of_action.min(0).values if over else of_action.mean(0)
        return (alpha * log_prob - best).mean()

    def step(self, part, loss):
        self.optimisers[part].zero_grad()
        mine = self.optimisers[part].param_groups[0]["params"]
        for parameter, gradient in zip(mine, torch.autograd.grad(loss, mine), strict=True):
            parameter.grad = gradient
        self.optimisers[part].step()


def assert_same_networks(learner, plain):
    for name, value in learner.networks.named_parameters():
        for i, one in enumerate(plain):
            expected = one.target[name.removeprefix("target_")] if "target" in name else None
            expected = one.parameters[name] if expected is None else expected
            torch.testing.assert_close(value[i].double(), expected, rtol=1e-5, atol=1e-6)
