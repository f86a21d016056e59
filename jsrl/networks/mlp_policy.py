"""What policies of one perceptron a seed share: what they see, its layers, and how they act."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.streams import Streams
from jsrl.networks.activations import Activation
from jsrl.networks.encoders.encoder import EncoderOptions, ImageShape, encoder_options
from jsrl.networks.encoders.observation import ObservationEncoder
from jsrl.networks.layers import SeedMLP
from jsrl.networks.plain_layers import Append, Clip, Normalise, without_seeds
from jsrl.networks.seed_policy import SeedPolicy


@dataclass(frozen=True)
class NamedDraws:
    """Draws of the streams of one name, for some of the seeds or for all; see ``Streams``."""

    streams: Streams
    name: str
    where: Sequence[bool] | None = None

    def normal(self, shape: Sequence[int]) -> Float[Tensor, "S ..."]:
        """Standard normal draws ``[S, *shape]``."""
        return self.streams.normal(self.name, shape, where=self.where)

    def uniform(self, shape: Sequence[int]) -> Float[Tensor, "S ..."]:
        """Uniform draws on [0, 1) ``[S, *shape]``."""
        return self.streams.uniform(self.name, shape, where=self.where)


class MlpPolicy(SeedPolicy):
    """A policy whose distribution over actions, or whose action, is what a perceptron says.

    It reads features: what encoders make of the images of an observation, and its vector behind
    them. ``encode`` gives them, and all methods that learners call take them.

    Args:
        num_seeds: S.
        observation_size: O, of the vector.
        action_size: A, or the number n of choices.
        hidden: sizes of the hidden layers.
        activation: what follows each hidden layer.
        layer_norm: normalise hidden layers.
        normalise_observations: subtract ``observation_mean``, divide by ``observation_std``.
        statistics_by_seed: each seed has a mean and a standard deviation of its own, ``[S, 1, O]``;
            otherwise they are one ``[O]`` for all seeds.
        observation_clip: normalised vectors are clipped to ± this; None leaves them as they are.
        appended: numbers that the networks read behind every vector, which is given without them:
            columns of training that do not change any more.
        images: channels, height and width of each image by name; None without images.
        encoder: of the images: its options, or the plain values of a checkpoint.
        arguments: the other keywords of the class, as plain values.
    """

    outputs_per_action: ClassVar[int] = 1
    """How many numbers the perceptron gives for each number of an action, or for each choice."""

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
        *,
        normalise_observations: bool = False,
        statistics_by_seed: bool = False,
        observation_clip: float | None = None,
        appended: Sequence[float] = (),
        images: Mapping[str, Sequence[int]] | None = None,
        encoder: EncoderOptions | Mapping[str, Any] | None = None,
        **arguments: Any,
    ) -> None:
        options = encoder_options(encoder)
        seen: dict[str, Any] = {}
        if images:
            seen = {"images": images, "encoder": None if options is None else vars(options)}
        # What is left at its default does not change what identifies a policy.
        if statistics_by_seed:
            seen["statistics_by_seed"] = True
        if observation_clip is not None:
            seen["observation_clip"] = observation_clip
        if appended:
            seen["appended"] = appended
        super().__init__(
            num_seeds,
            observation_size,
            action_size,
            hidden=hidden,
            activation=activation,
            layer_norm=layer_norm,
            # The order is part of what identifies a guide in checkpoints.
            **arguments,
            normalise_observations=normalise_observations,
            **seen,
        )
        shapes = {name: _image_shape(shape) for name, shape in (images or {}).items()}
        self.appended = tuple(float(number) for number in appended)
        columns = observation_size + len(self.appended)
        self.columns = columns
        self.observation_encoder = ObservationEncoder(options, num_seeds, columns, shapes)
        size, outputs = self.observation_encoder.size, self.outputs_per_action * action_size
        self.mlp = SeedMLP((num_seeds,), size, hidden, outputs, activation, layer_norm)
        statistics = (num_seeds, 1, columns) if statistics_by_seed else (columns,)
        self.register_buffer("observation_mean", torch.zeros(statistics))
        self.register_buffer("observation_std", torch.ones(statistics))
        if statistics_by_seed:
            self.seed_buffers = frozenset({"observation_mean", "observation_std"})
        self.normalise_observations = normalise_observations
        self.observation_clip = observation_clip

    def set_normaliser(
        self, mean: Float[Tensor, "*S O"] | None, std: Float[Tensor, "*S O"] | None
    ) -> None:
        """Normalise by these statistics from now on, if this policy normalises at all.

        They are ``[O]``, or ``[S, 1, O]`` where each seed has its own.
        """
        if self.normalise_observations and mean is not None and std is not None:
            self.observation_mean.copy_(mean)
            self.observation_std.copy_(std)

    def normaliser(self) -> tuple[Float[Tensor, "*S O"], Float[Tensor, "*S O"]]:
        """The mean and standard deviation of the observations it was trained on.

        They are ``[O]``, or ``[S, 1, O]`` where each seed has its own.
        """
        size = self.observation_size
        return self.observation_mean[..., :size], self.observation_std[..., :size]

    def normalise(self, vector: Float[Tensor, "S B O"]) -> Float[Tensor, "S B O"]:
        """Vectors in the units that the network was trained in."""
        if not self.normalise_observations:
            return vector
        normalised = (vector - self.observation_mean) / self.observation_std
        clip = self.observation_clip
        return normalised if clip is None else normalised.clamp(-clip, clip)

    def trained_parameters(self) -> list[nn.Parameter]:
        """All parameters but those of convolutions that belong to another network."""
        encoder = self.observation_encoder
        own = {id(parameter) for parameter in encoder.trained_parameters()}
        others = {id(p) for p in encoder.parameters()} - own
        return [parameter for parameter in self.parameters() if id(parameter) not in others]

    def encode(self, obs: Observation) -> Float[Tensor, "S B F"]:
        """The features that ``forward`` takes: those of the images, and the vector as it is."""
        if self.appended:
            obs = Observation(self._with_appended(obs.vector), obs.images)
        if not self.images and not obs.images:
            return obs.vector
        features: Tensor = self.observation_encoder(obs.vector, obs.images)
        return features

    def describe_with_last(self, numbers: Sequence[float]) -> dict[str, Any]:
        """See ``jsrl.core.protocols.FixesLastColumns``."""
        described = self.describe()
        arguments: dict[str, Any] = described["arguments"]
        fixed = {
            "observation_size": self.observation_size - len(numbers),
            "appended": [*numbers, *self.appended],
        }
        return {**described, "arguments": {**arguments, **fixed}}

    def _with_appended(self, vector: Float[Tensor, "S B O"]) -> Float[Tensor, "S B columns"]:
        numbers = torch.tensor(self.appended, dtype=vector.dtype, device=vector.device)
        return torch.cat([vector, numbers.expand(*vector.shape[:-1], len(self.appended))], -1)

    def outputs(
        self, features: Float[Tensor, "S B F"], dropout: Sequence[Tensor] = ()
    ) -> Float[Tensor, "S B outputs"]:
        """What the perceptron says; ``dropout`` holds a mask for each hidden layer."""
        if self.normalise_observations:
            sizes = [features.shape[-1] - self.columns, self.columns]
            of_images, vector = features.split(sizes, -1)
            normalised = self.normalise(vector)
            features = torch.cat([of_images, normalised], -1) if sizes[0] else normalised
        out: Tensor = self.mlp(features, dropout)
        return out

    def head_layers(self) -> dict[str, nn.Module]:
        """What follows the perceptron on the way to the action without noise, layer by layer.

        A policy that chooses has none: what its perceptron says of each choice is compared.
        """
        return {}

    def layers_without_seeds(self, index: int) -> dict[str, nn.Module]:
        """See ``jsrl.core.protocols.HasLayersWithoutSeeds``.

        Raises:
            UserError: if the policy sees images.
        """
        if self.images:
            raise UserError(
                f"the policy sees the images {', '.join(self.images)}; only the layers of one that "
                "sees a vector alone are a chain"
            )
        alone = self.select(index).cpu()
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if self.appended:
            layers["appended"] = Append(torch.tensor(self.appended))
        if self.normalise_observations:
            mean, std = alone.observation_mean.flatten(), alone.observation_std.flatten()
            layers["normalise"] = Normalise(mean, std)
            if self.observation_clip is not None:
                layers["clip_observations"] = Clip(self.observation_clip)
        # The output layer was registered last, so that this is the order of the forward.
        for name, layer in alone.mlp.named_children():
            layers[name] = without_seeds(layer)
        layers.update(alone.head_layers())
        return layers

    def greedy(self, features: Float[Tensor, "S B F"]) -> Shaped[Tensor, "S B *A"]:
        """The action without noise."""
        raise NotImplementedError(f"{type(self).__qualname__} defines no greedy(features)")

    def mode(self, obs: Observation) -> Shaped[Tensor, "S B *A"]:
        """The action without noise."""
        return self.greedy(self.encode(obs))

    @torch.inference_mode()
    def act(self, obs: Observation, streams: Streams | None) -> Shaped[Tensor, "S E *A"]:
        """Sampled actions, or the mode without ``streams``."""
        return self.mode(obs) if streams is None else self.sample(obs, streams, "action_noise")

    @torch.inference_mode()
    def sample(
        self,
        obs: Observation,
        streams: Streams,
        name: str,
        where: Sequence[bool] | None = None,
    ) -> Shaped[Tensor, "S E *A"]:
        """Sampled actions from draws of the streams ``name``; see ``SamplingPolicy``."""
        return self.sampled(self.encode(obs), NamedDraws(streams, name, where))

    def sampled(
        self, features: Float[Tensor, "S B F"], draws: NamedDraws
    ) -> Shaped[Tensor, "S B *A"]:
        """Sampled actions. A policy that draws nothing gives its mode."""
        return self.greedy(features)


def _image_shape(shape: Sequence[int]) -> ImageShape:
    channels, height, width = shape
    return channels, height, width
