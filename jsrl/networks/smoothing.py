"""Smoothing by noise: a policy's answer over many noisy copies of what it sees.

Cohen, Rosenfeld and Kolter 2019 (arXiv 1902.02918, section 3) for choices, by a vote; for real
actions the mean, as in Kumar, Levine and Feizi 2021 (arXiv 2106.11420, section 3).
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.streams import Streams
from jsrl.networks.mlp_policy import MlpPolicy
from jsrl.networks.seed_policy import SeedPolicy


class SmoothedPolicy(SeedPolicy):
    """Acts by the mean, or the most frequent choice, over noisy observations.

    Its layers are those of the policy, below ``policy``; what the monitor sees of them is what they
    say to the observation without noise.

    Args:
        policy: of S seeds, without images.
        deviation: the standard deviation of the noise in each column, in the column's unit.
        samples: how many noisy copies there are of each observation.
        streams: of the S seeds. The noise of ``mode`` is drawn from them once, so that it answers
            equal observations alike.

    Raises:
        UserError: if the policy sees images.
    """

    noise: Tensor
    deviation: Tensor

    def __init__(
        self,
        policy: MlpPolicy,
        deviation: Float[Tensor, " O"],
        samples: int,
        streams: Streams,
    ) -> None:
        if policy.images:
            raise UserError(
                f"the policy sees the images {', '.join(policy.images)}; smoothing adds noise to "
                "vectors alone"
            )
        super().__init__(policy.num_seeds, policy.observation_size, policy.action_size)
        self.policy = policy
        self.samples = samples
        shape = (samples, policy.observation_size)
        self.register_buffer("noise", streams.normal("smoothing", shape))
        self.register_buffer("deviation", deviation.clone())

    def encode(self, obs: Observation) -> Float[Tensor, "S B F"]:
        """The features of the observation without noise."""
        return self.policy.encode(obs)

    def forward(self, features: Float[Tensor, "S B F"]) -> object:
        """What the policy itself says."""
        return self.policy(features)

    def mode(self, obs: Observation) -> Shaped[Tensor, "S B *A"]:
        """The smoothed action, always by the same noise."""
        return self._smoothed(obs, self.noise[:, None])

    @torch.no_grad()
    def act(self, obs: Observation, streams: Streams | None) -> Shaped[Tensor, "S E *A"]:
        """The smoothed action, by noise of the streams ``smoothing``; without them the mode."""
        if streams is None:
            actions = self.mode(obs)
        else:
            shape = (obs.leading[1], self.samples, self.observation_size)
            drawn = streams.normal("smoothing", shape)
            actions = self._smoothed(obs, drawn.to(obs.device))
        # Behind the noisy passes, of which nothing is recorded then.
        self(self.encode(obs))
        return actions

    def _smoothed(
        self, obs: Observation, noise: Float[Tensor, "S _ n O"]
    ) -> Shaped[Tensor, "S B *A"]:
        seeds, rows = obs.leading
        noisy = obs.vector[:, :, None] + self.deviation * noise
        answers = self.policy.mode(Observation(noisy.reshape(seeds, rows * self.samples, -1)))
        answers = answers.reshape(seeds, rows, self.samples, *answers.shape[2:])
        if answers.is_floating_point():
            return answers.mean(2)
        return functional.one_hot(answers, self.action_size).sum(2).argmax(-1)
