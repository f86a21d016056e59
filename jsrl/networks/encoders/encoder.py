"""What all image encoders share: their options, their registry, and the two halves of each.

An encoder has convolutions, which an actor and a critic may share, and a trunk, which each has of
its own (Kostrikov, Yarats and Fergus 2020, arXiv 2004.13649, appendix B).
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn

from jsrl.core.errors import UserError
from jsrl.core.registry import KindOptions, Registry, option_names
from jsrl.core.streams import Streams
from jsrl.networks.encoders.convolution import SCHEMES, SeedConv2d
from jsrl.networks.layers import INITIALISATIONS, SeedLinear, orthogonal

ImageShape = tuple[int, int, int]
"""Channels, height and width."""

NONE = "none"
"""The kind that reads no image."""


@dataclass
class EncoderOptions(KindOptions):
    """What every choice of ``learner.encoder`` has. ``none`` reads no image."""

    # The encoder of images: none, or the name of one.
    kind: str = NONE


@dataclass
class ImageEncoderOptions(EncoderOptions):
    """What every image encoder has."""

    # How many numbers describe one image.
    features: int = 50
    # How weights begin: delta_orthogonal, orthogonal or pytorch.
    initialisation: str = "pytorch"
    # Whether the actor reads the critic's convolutions, which then learn from the critic alone.
    shared: bool = True
    # Whether one encoder reads all images of an observation; else each image has its own.
    one_for_all_images: bool = False
    # By how many pixels images are shifted at random in an update, at most; 0: not at all.
    shift: int = 0

    def check(self) -> None:
        """Raise UserError for the first value that is out of range."""
        if self.features < 1:
            raise UserError(f"learner.encoder.features={self.features} must be at least 1")
        if self.shift < 0:
            raise UserError(f"learner.encoder.shift={self.shift} must be at least 0")
        if self.initialisation not in SCHEMES:
            raise UserError(
                f"learner.encoder.initialisation={self.initialisation!r} is unknown; choose one of "
                f"{', '.join(SCHEMES)}"
            )


class ImageEncoder(nn.Module):
    """Images of one shape to features, for S seeds.

    A kind extends it: it passes on its convolutions and its trunk, both modules with a seed axis.

    Args:
        kind: the kind's name, for messages.
        shape: channels, height and width of the images.
        convolutions: scaled images ``[S, B, C, H, W]`` to ``[S, B, channels, height, width]``.
        trunk: of the flat output of the convolutions, ``[S, B, R]``, to features ``[S, B, F]``.
        features: F.
        initialisation: how weights begin, one of ``SCHEMES``.
        trunk_gain: of the trunk's weights, where they begin orthogonal.
        centre: pixels are divided by 255, and then this is subtracted.
    """

    def __init__(
        self,
        kind: str,
        shape: ImageShape,
        convolutions: nn.Module,
        trunk: nn.Module,
        *,
        features: int,
        initialisation: str,
        trunk_gain: float,
        centre: float = 0.0,
    ) -> None:
        super().__init__()
        self.kind = kind
        self.shape = shape
        self.features = features
        self.initialisation = initialisation
        self.trunk_gain = trunk_gain
        self.centre = centre
        self.convolutions = convolutions
        self.trunk = trunk

    def initialise(self, streams: Streams, name: str, *, trunk_alone: bool = False) -> None:
        """Draw all parameters from streams named after ``name``.

        Args:
            streams: of the S seeds.
            name: what the names of their streams begin with.
            trunk_alone: leave the convolutions as they are, because they are another encoder's.
        """
        scheme = "pytorch" if self.initialisation == "pytorch" else "orthogonal"
        linear = INITIALISATIONS[scheme].hidden
        for child_name, child in self.named_modules():
            if isinstance(child, SeedConv2d) and not trunk_alone:
                child.initialise(self.initialisation, streams, f"{name}.{child_name}")
            elif isinstance(child, SeedLinear):
                child.initialise(
                    linear if scheme == "pytorch" else orthogonal(self.trunk_gain),
                    streams,
                    f"{name}.{child_name}",
                    uniform_bias=scheme == "pytorch",
                )

    def convolve(self, images: Num[Tensor, "S B C H W"]) -> Float[Tensor, "S B R"]:
        """The flat output of the convolutions.

        Args:
            images: uint8; or float32 in [0, 255], which shifts by parts of a pixel give.

        Raises:
            UserError: for images of another shape.
        """
        if tuple(images.shape[2:]) != self.shape:
            raise UserError(
                f"an image is {sizes(tuple(images.shape[2:]))}, but the encoder {self.kind} was "
                f"made for {sizes(self.shape)} (channels×height×width); give it such images, or "
                "make another encoder"
            )
        scaled = images.to(torch.float32) / 255.0
        if self.centre:
            scaled = scaled - self.centre
        return self.convolutions(scaled).flatten(2)

    def forward(self, images: Num[Tensor, "S B C H W"]) -> Float[Tensor, "S B F"]:
        features: Tensor = self.trunk(self.convolve(images))
        return features


class ChainEncoder(ImageEncoder):
    """A chain of convolutions without padding, see ``chain``; the trunk begins with a linear layer.

    Args:
        kind: the kind's name, for messages.
        options: how many features there are, and how weights begin.
        num_seeds: S.
        shape: channels, height and width of the images.
        layers: output channels, kernel and stride of each convolution.
        behind: what follows the linear layer of the trunk, by name.
        trunk_gain: of the trunk's weights, where they begin orthogonal.
        centre: pixels are divided by 255, and then this is subtracted.

    Raises:
        UserError: if the convolutions leave no pixel of such images.
    """

    def __init__(
        self,
        kind: str,
        options: ImageEncoderOptions,
        num_seeds: int,
        shape: ImageShape,
        layers: Sequence[tuple[int, int, int]],
        behind: Mapping[str, nn.Module],
        *,
        trunk_gain: float,
        centre: float = 0.0,
    ) -> None:
        require_size(kind, shape, smallest_size(layers))
        channels, height, width = shape
        flat = layers[-1][0] * chain_size(height, layers) * chain_size(width, layers)
        linear = SeedLinear((num_seeds,), flat, options.features)
        super().__init__(
            kind,
            shape,
            chain(num_seeds, channels, layers),
            nn.Sequential(OrderedDict[str, nn.Module](linear=linear, **behind)),
            features=options.features,
            initialisation=options.initialisation,
            trunk_gain=trunk_gain,
            centre=centre,
        )


class MakeEncoder(Protocol):
    """Makes a fresh encoder; its weights are 0 until ``initialise``.

    Raises UserError if the images are too small for its convolutions.
    """

    def __call__(self, options: Any, num_seeds: int, shape: ImageShape) -> ImageEncoder: ...


encoders: Registry[MakeEncoder] = Registry("learner.encoder", EncoderOptions)
"""The kinds of ``learner.encoder=…``."""


@encoders.register(NONE)
def no_encoder(options: EncoderOptions, num_seeds: int, shape: ImageShape) -> ImageEncoder:
    """There is none to make."""
    raise UserError(no_encoder_for("an image"))


def no_encoder_for(what: str) -> str:
    """That images need an encoder, and which there are."""
    names = [name for name in encoders.names() if name != NONE]
    return (
        f"the environment has {what}, and learner.encoder is not set; choose "
        f"learner.encoder={' or '.join(names)}, or an environment of vectors"
    )


def encoder_options(
    given: EncoderOptions | Mapping[str, Any] | None,
) -> ImageEncoderOptions | None:
    """The options of an image encoder, also from the plain values that a checkpoint holds.

    None stands for no encoder, as options of the kind none do.

    Raises:
        UserError: if there is no such encoder, or it has no such option.
    """
    if given is None or isinstance(given, ImageEncoderOptions):
        return given
    if isinstance(given, EncoderOptions):
        return None
    options = encoders[str(given["kind"])].options
    unknown = sorted(set(given) - set(option_names(options)))
    if unknown:
        raise UserError(
            f"learner.encoder={given['kind']} has no option {unknown[0]!r}; was it stored by "
            "another version of jsrl?"
        )
    made: ImageEncoderOptions = options(**given)
    return made


def chain(num_seeds: int, channels: int, layers: Sequence[tuple[int, int, int]]) -> nn.Sequential:
    """Convolutions without padding, each followed by ReLU.

    Args:
        num_seeds: S.
        channels: of the images.
        layers: output channels, kernel and stride of each.
    """
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    for i, (out, kernel, stride) in enumerate(layers):
        modules[f"convolution_{i}"] = SeedConv2d(num_seeds, channels, out, kernel, stride)
        modules[f"activation_{i}"] = nn.ReLU()
        channels = out
    return nn.Sequential(modules)


def chain_size(size: int, layers: Sequence[tuple[int, int, int]]) -> int:
    """Height, or width, of what ``chain`` makes of an image; below 1 for one that is too small."""
    for _, kernel, stride in layers:
        size = (size - kernel) // stride + 1
    return size


def smallest_size(layers: Sequence[tuple[int, int, int]]) -> int:
    """Pixels a side, of which ``chain`` leaves one."""
    size = 1
    for _, kernel, stride in reversed(layers):
        size = (size - 1) * stride + kernel
    return size


def require_size(kind: str, shape: ImageShape, smallest: int) -> None:
    """Raise UserError if an image has a side below ``smallest``, or no channel."""
    channels, height, width = shape
    if min(height, width) < smallest or channels < 1:
        raise UserError(
            f"learner.encoder={kind} needs images of at least 1×{smallest}×{smallest} "
            f"(channels×height×width), but an image is {sizes(shape)}; render larger images or "
            "choose another encoder"
        )


def sizes(shape: Sequence[int]) -> str:
    """``3×64×64``."""
    return "×".join(map(str, shape))
