"""IQL as single-file code usually writes it: what the package's speed is compared with.

Separate networks, three optimisers with PyTorch's defaults, an array for each field of a
transition, and every statistic read as a Python number in every step.
"""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributions import Normal
from torch.optim.lr_scheduler import CosineAnnealingLR

from jsrl.benchmark.problem import SCHEDULE, Sizes
from jsrl.core.transitions import TransitionData
from jsrl.learners.iql import IQLNetworks, IQLOptions
from jsrl.networks.layers import SeedLinear, SeedMLP


@dataclass
class PlainReplay:
    """Offline data, field by field."""

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    next_observations: Tensor
    terminated: Tensor

    @classmethod
    def of(cls, data: TransitionData) -> "PlainReplay":
        """The same transitions as the package's replay has."""
        return cls(
            torch.from_numpy(data.observations),
            torch.from_numpy(data.actions),
            torch.from_numpy(data.rewards),
            torch.from_numpy(data.next_observations),
            torch.from_numpy(data.terminals.astype(np.float32)),
        )

    def sample(self, rng: np.random.Generator, batch_size: int) -> "PlainReplay":
        """A random minibatch."""
        return self.at(rng.integers(0, len(self.rewards), batch_size))

    def at(self, indices: NDArray[np.int64]) -> "PlainReplay":
        """The transitions at ``indices``."""
        return PlainReplay(
            self.observations[indices],
            self.actions[indices],
            self.rewards[indices],
            self.next_observations[indices],
            self.terminated[indices],
        )


class PlainIQL:
    """One seed of IQL, with the choices of the official preset."""

    def __init__(self, sizes: Sizes, options: IQLOptions) -> None:
        self.options = options
        both = sizes.observation + sizes.action
        self.q1, self.q2 = _mlp(sizes, both, 1), _mlp(sizes, both, 1)
        self.target1, self.target2 = copy.deepcopy(self.q1), copy.deepcopy(self.q2)
        self.value = _mlp(sizes, sizes.observation, 1)
        self.actor = _mlp(sizes, sizes.observation, sizes.action)
        self.log_std = nn.Parameter(torch.zeros(sizes.action))
        critics = [*self.q1.parameters(), *self.q2.parameters()]
        rate = options.learning_rate
        self.value_optimiser = torch.optim.Adam(self.value.parameters(), lr=rate)
        self.critic_optimiser = torch.optim.Adam(critics, lr=rate)
        self.actor_optimiser = torch.optim.Adam([*self.actor.parameters(), self.log_std], lr=rate)
        self.schedule = CosineAnnealingLR(self.actor_optimiser, SCHEDULE)

    def update(self, batch: PlainReplay) -> dict[str, float]:
        """One gradient step of V, then the actor, then Q, then the targets."""
        s = self.options
        obs, actions = batch.observations, batch.actions
        with torch.no_grad():
            obs_action = torch.cat([obs, actions], -1)
            target_q = torch.min(self.target1(obs_action), self.target2(obs_action)).squeeze(-1)
        difference = target_q - self.value(obs).squeeze(-1)
        weight = torch.where(difference > 0, s.expectile, 1 - s.expectile)
        value_loss = (weight * difference**2).mean()
        _descend(self.value_optimiser, value_loss)

        with torch.no_grad():
            advantage = target_q - self.value(obs).squeeze(-1)
            weights = torch.exp(s.temperature * advantage).clamp(max=s.largest_weight)
            next_value = self.value(batch.next_observations).squeeze(-1)
        actor_loss = -(weights * self._log_prob(obs, actions)).mean()
        _descend(self.actor_optimiser, actor_loss)
        self.schedule.step()

        reward = s.reward_scale * batch.rewards + s.reward_shift
        target = reward + s.discount * (1 - batch.terminated) * next_value
        q1 = self.q1(obs_action).squeeze(-1)
        q2 = self.q2(obs_action).squeeze(-1)
        critic_loss = ((q1 - target) ** 2).mean() + ((q2 - target) ** 2).mean()
        _descend(self.critic_optimiser, critic_loss)
        self._follow(self.q1, self.target1)
        self._follow(self.q2, self.target2)
        return {
            "loss/value": value_loss.item(),
            "loss/actor": actor_loss.item(),
            "loss/critic": critic_loss.item(),
            "value/q": (q1.mean() + q2.mean()).item() / 2,
            "advantage/mean": advantage.mean().item(),
        }

    @torch.no_grad()
    def load_seed(self, networks: IQLNetworks, index: int) -> None:
        """Take over the weights of one seed of the package's networks."""
        for critic, target, k in ((self.q1, self.target1, 0), (self.q2, self.target2, 1)):
            _copy_mlp(critic, networks.critic, (index, k))
            _copy_mlp(target, networks.target_critic, (index, k))
        _copy_mlp(self.value, networks.value, (index,))
        _copy_mlp(self.actor, networks.actor.mlp, (index,))
        log_std: Tensor = networks.actor.get_parameter("log_std")
        self.log_std.copy_(log_std[index, 0])

    def _log_prob(self, obs: Float[Tensor, "B O"], actions: Float[Tensor, "B A"]) -> Tensor:
        low, high = self.options.log_std_range
        policy = Normal(torch.tanh(self.actor(obs)), self.log_std.clamp(low, high).exp())
        log_prob: Tensor = policy.log_prob(actions)
        return log_prob.sum(-1)

    @torch.no_grad()
    def _follow(self, source: nn.Module, target: nn.Module) -> None:
        rate = self.options.target_rate
        for new, old in zip(source.parameters(), target.parameters(), strict=True):
            old.copy_(rate * new + (1 - rate) * old)


def _mlp(sizes: Sizes, inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, sizes.hidden),
        nn.ReLU(),
        nn.Linear(sizes.hidden, sizes.hidden),
        nn.ReLU(),
        nn.Linear(sizes.hidden, outputs),
    )


def _descend(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def _copy_mlp(plain: nn.Sequential, mlp: SeedMLP, where: tuple[int, ...]) -> None:
    layers = [layer for layer in mlp.children() if isinstance(layer, SeedLinear)]
    linears = [layer for layer in plain if isinstance(layer, nn.Linear)]
    for linear, layer in zip(linears, layers, strict=True):
        linear.weight.copy_(layer.weight[where].T)
        linear.bias.copy_(layer.bias[where][0])
