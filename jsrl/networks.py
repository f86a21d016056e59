"""Networks with a leading seed axis.

Every parameter is ``[S, ..., in, out]``: one batched product a layer serves all seeds, and no
operation mixes seeds, so that seed i's numbers do not depend on which seeds run beside it.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from jsrl.activations import Activation, initialisation_gain, make_activation
from jsrl.errors import UserError
from jsrl.seeding import Streams

Initialiser = Callable[[Streams, str, Sequence[int]], Tensor]
"""Weights ``[S, *shape]`` from named draws; the last two axes of ``shape`` are (in, out)."""


def orthogonal(gain: float) -> Initialiser:
    """Orthogonal matrices times ``gain`` (Saxe et al. 2014)."""

    def initialise(streams: Streams, name: str, shape: Sequence[int]) -> Tensor:
        draws = streams.normal(name, shape)
        tall = draws if shape[-2] >= shape[-1] else draws.mT
        q, r = torch.linalg.qr(tall)
        # Without the signs the decomposition would not be uniform over orthogonal matrices.
        q = q * torch.sign(torch.diagonal(r, dim1=-2, dim2=-1)).unsqueeze(-2)
        return gain * (q if shape[-2] >= shape[-1] else q.mT)

    return initialise


def fan_in_uniform(streams: Streams, name: str, shape: Sequence[int]) -> Tensor:
    """PyTorch's default for linear layers: uniform on ±1/√in."""
    return (2 * streams.uniform(name, shape) - 1) / math.sqrt(shape[-2])


def variance_scaling(scale: float) -> Initialiser:
    """Uniform with variance ``scale`` / mean of in and out (Glorot and Bengio 2010)."""

    def initialise(streams: Streams, name: str, shape: Sequence[int]) -> Tensor:
        bound = math.sqrt(6 * scale / (shape[-2] + shape[-1]))
        return bound * (2 * streams.uniform(name, shape) - 1)

    return initialise


class SeedLinear(nn.Module):
    """Linear layers, one for each seed and member: weight ``[S, *members, in, out]``."""

    def __init__(self, members: Sequence[int], in_features: int, out_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(*members, in_features, out_features))
        self.bias = nn.Parameter(torch.zeros(*members, 1, out_features))

    def initialise(
        self,
        initialiser: Initialiser,
        streams: Streams,
        name: str,
        *,
        uniform_bias: bool,
        scale: float = 1.0,
    ) -> None:
        """Fill the parameters from named draws; biases are 0 unless ``uniform_bias``.

        Weights are multiplied by ``scale``.
        """
        with torch.no_grad():
            self.weight.copy_(initialiser(streams, f"{name}.weight", self.weight.shape[1:]))
            if scale != 1:
                self.weight.mul_(scale)
            self.bias.zero_()
            if uniform_bias:
                bound = 1 / math.sqrt(self.weight.shape[-2])
                draws = streams.uniform(f"{name}.bias", self.bias.shape[1:])
                self.bias.copy_(bound * (2 * draws - 1))

    def forward(self, x: Float[Tensor, "N B in"]) -> Float[Tensor, "N B out"]:
        weight, bias = self.weight.flatten(0, -3), self.bias.flatten(0, -3)
        if weight.shape[-1] == 1:
            # A batch of matrix-vector products takes another path in BLAS for one matrix than
            # for several, with other rounding; a sum over the last axis does not.
            return (x * weight.mT).sum(-1, keepdim=True) + bias
        # Faster than baddbmm; compiled, the bias is added together with the activation.
        return torch.bmm(x, weight).add_(bias)


class SeedLayerNorm(nn.Module):
    """Layer normalisation with a gain and an offset for each seed and member."""

    def __init__(self, members: Sequence[int], features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(*members, 1, features))
        self.bias = nn.Parameter(torch.zeros(*members, 1, features))

    def forward(self, x: Float[Tensor, "N B F"]) -> Float[Tensor, "N B F"]:
        normalised = nn.functional.layer_norm(x, x.shape[-1:])
        return torch.addcmul(self.bias.flatten(0, -3), normalised, self.weight.flatten(0, -3))


class SeedMLP(nn.Module):
    """Multi-layer perceptrons, one for each seed and member.

    Args:
        members: (S,) or (S, K) for K networks a seed on the same input.
        in_features: input size.
        hidden: sizes of the hidden layers.
        out_features: output size.
        activation: what follows each hidden layer.
        layer_norm: normalise each hidden layer before its activation.
    """

    def __init__(
        self,
        members: Sequence[int],
        in_features: int,
        hidden: Sequence[int],
        out_features: int,
        activation: Activation = "relu",
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.members = tuple(members)
        self.depth = len(hidden)
        size = in_features
        for i, width in enumerate(hidden):
            self.add_module(f"hidden_{i}", SeedLinear(members, size, width))
            if layer_norm:
                self.add_module(f"norm_{i}", SeedLayerNorm(members, width))
            self.add_module(f"activation_{i}", make_activation(activation))
            size = width
        self.output = SeedLinear(members, size, out_features)

    def initialise(self, scheme: "Initialisation", streams: Streams, name: str) -> None:
        """Draw all parameters from streams named after ``name``.

        The schemes are made for ReLU. Layers that another activation feeds are scaled by its gain
        over ReLU's; the draws are the same for all.
        """
        fed = initialisation_gain(self.activation) / initialisation_gain("relu")
        first = next(child for child in self.children() if isinstance(child, SeedLinear))
        for child_name, child in self.named_children():
            if isinstance(child, SeedLinear):
                child.initialise(
                    scheme.output if child is self.output else scheme.hidden,
                    streams,
                    f"{name}.{child_name}",
                    uniform_bias=scheme.uniform_bias,
                    scale=1.0 if child is first else fed,
                )

    def forward(
        self, x: Float[Tensor, "S B in"], dropout: Sequence[Tensor] = ()
    ) -> Float[Tensor, "S *K B out"]:
        """Outputs for inputs ``[S, B, in]``; ``dropout`` holds a mask for each hidden layer."""
        if len(self.members) > 1:
            copies = x.unsqueeze(1).expand(-1, self.members[1], -1, -1)
            x = copies.reshape(-1, *x.shape[-2:])
        for i in range(self.depth):
            x = getattr(self, f"hidden_{i}")(x)
            if hasattr(self, f"norm_{i}"):
                x = getattr(self, f"norm_{i}")(x)
            x = getattr(self, f"activation_{i}")(x)
            if dropout:
                x = x * dropout[i]
        out: Tensor = self.output(x)
        return out.unflatten(0, self.members)


class Initialisation:
    """How the layers of a network begin: hidden weights, output weights, biases."""

    def __init__(self, hidden: Initialiser, output: Initialiser, *, uniform_bias: bool) -> None:
        self.hidden = hidden
        self.output = output
        self.uniform_bias = uniform_bias


INITIALISATIONS: dict[str, Initialisation] = {
    "orthogonal": Initialisation(
        orthogonal(math.sqrt(2)), orthogonal(math.sqrt(2)), uniform_bias=False
    ),
    "pytorch": Initialisation(fan_in_uniform, fan_in_uniform, uniform_bias=True),
    "variance_scaling": Initialisation(
        variance_scaling(1.0), variance_scaling(1e-2), uniform_bias=False
    ),
}


class GaussianPolicy(nn.Module):
    """Gaussian policies with a state-independent standard deviation, one for each seed.

    Args:
        num_seeds: S.
        observation_size: O.
        action_size: A.
        hidden: sizes of the hidden layers.
        activation: what follows each hidden layer.
        layer_norm: normalise hidden layers.
        tanh_mean: squash the mean into (-1, 1).
        log_std_range: bounds on the log standard deviation.
        action_clip: actions are clipped, once, to ± this.
        normalise_observations: subtract ``observation_mean``, divide by ``observation_std``.
    """

    observation_mean: Tensor
    observation_std: Tensor

    def __init__(
        self,
        num_seeds: int,
        observation_size: int,
        action_size: int,
        hidden: Sequence[int] = (256, 256),
        activation: Activation = "relu",
        layer_norm: bool = False,
        tanh_mean: bool = True,
        log_std_range: Sequence[float] = (-5.0, 2.0),
        action_clip: float = 1.0,
        normalise_observations: bool = False,
    ) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {
            "num_seeds": num_seeds,
            "observation_size": observation_size,
            "action_size": action_size,
            "hidden": list(hidden),
            "activation": activation if isinstance(activation, str) else dict(activation),
            "layer_norm": layer_norm,
            "tanh_mean": tanh_mean,
            "log_std_range": list(log_std_range),
            "action_clip": action_clip,
            "normalise_observations": normalise_observations,
        }
        self.mlp = SeedMLP(
            (num_seeds,), observation_size, hidden, action_size, activation, layer_norm
        )
        self.log_std = nn.Parameter(torch.zeros(num_seeds, 1, action_size))
        self.register_buffer("observation_mean", torch.zeros(observation_size))
        self.register_buffer("observation_std", torch.ones(observation_size))
        self.tanh_mean = tanh_mean
        self.log_std_range = (float(log_std_range[0]), float(log_std_range[1]))
        self.action_clip = action_clip
        self.normalise_observations = normalise_observations

    def describe(self) -> dict[str, Any]:
        """Plain values from which ``build_policy`` makes this policy again, without its weights."""
        return {"class": "GaussianPolicy", "arguments": self.arguments}

    def set_normaliser(
        self, mean: Float[Tensor, " O"] | None, std: Float[Tensor, " O"] | None
    ) -> None:
        """Normalise by these statistics of a dataset, if this policy normalises at all."""
        if self.normalise_observations and mean is not None and std is not None:
            self.observation_mean.copy_(mean)
            self.observation_std.copy_(std)

    def normalise(self, obs: Float[Tensor, "S B O"]) -> Float[Tensor, "S B O"]:
        """Observations in the units that the network was trained in."""
        if not self.normalise_observations:
            return obs
        return (obs - self.observation_mean) / self.observation_std

    def forward(
        self, obs: Float[Tensor, "S B O"], dropout: Sequence[Tensor] = ()
    ) -> tuple[Float[Tensor, "S B A"], Float[Tensor, "S 1 A"]]:
        """Mean and log standard deviation."""
        mean = self.mlp(self.normalise(obs), dropout)
        return (
            torch.tanh(mean) if self.tanh_mean else mean,
            self.log_std.clamp(*self.log_std_range),
        )

    def log_prob(
        self,
        obs: Float[Tensor, "S B O"],
        actions: Float[Tensor, "S B A"],
        dropout: Sequence[Tensor] = (),
    ) -> Float[Tensor, "S B"]:
        """Log density of ``actions``, summed over action dimensions."""
        mean, log_std = self(obs, dropout)
        z = (actions - mean) * torch.exp(-log_std)
        return -(0.5 * z * z + log_std + 0.5 * math.log(2 * math.pi)).sum(-1)

    def select(self, index: int) -> "GaussianPolicy":
        """A copy for one seed alone (S = 1)."""
        alone = GaussianPolicy(**{**self.arguments, "num_seeds": 1})
        own = dict(self.named_parameters())
        state = {
            name: value[index : index + 1] if name in own else value
            for name, value in self.state_dict().items()
        }
        alone.load_state_dict(state)
        return alone.requires_grad_(False)

    @torch.inference_mode()
    def act(self, obs: Float[Tensor, "S E O"], streams: Streams | None) -> Float[Tensor, "S E A"]:
        """Sampled actions, or the mode without ``streams``; in [-1, 1]."""
        mean, log_std = self(obs)
        if streams is not None:
            noise = streams.normal("action_noise", mean.shape[1:])
            mean = mean + log_std.exp() * noise.to(mean.device, non_blocking=True)
        return mean.clamp(-self.action_clip, self.action_clip)


POLICIES: dict[str, type[GaussianPolicy]] = {"GaussianPolicy": GaussianPolicy}


def build_policy(description: dict[str, Any], state: dict[str, Tensor]) -> GaussianPolicy:
    """A policy from its description and weights, as a checkpoint holds them. Runs no foreign code.

    Raises:
        UserError: if the description names a class that this package does not have.
    """
    name = description.get("class")
    if name not in POLICIES:
        raise UserError(
            f"the policy is of class {name!r}, which jsrl cannot rebuild from a checkpoint; "
            "use it as guide=python with your own module:attribute"
        )
    policy = POLICIES[name](**description["arguments"])
    policy.load_state_dict(state)
    return policy.requires_grad_(False)
