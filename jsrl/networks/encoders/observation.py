"""From an observation, its vector and its named images, to the features that networks read."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn

from jsrl.core.errors import UserError
from jsrl.core.streams import Streams
from jsrl.networks.encoders import encoders
from jsrl.networks.encoders.encoder import (
    ImageEncoder,
    ImageEncoderOptions,
    ImageShape,
    no_encoder_for,
    sizes,
)

ALL_IMAGES = "all_images"
"""The name of the encoder that reads every image."""


def check_encoder(options: ImageEncoderOptions | None, images: Mapping[str, ImageShape]) -> None:
    """Whether these options fit an environment with these images.

    Args:
        options: None without an encoder.
        images: channels, height and width by name; empty for an environment of vectors.

    Raises:
        UserError: for an encoder without images, images without an encoder, images that differ
            where one encoder is to read all, an image that is too small, or an option out of range.
    """
    if options is None:
        if images:
            raise UserError(no_encoder_for(_listed(images)))
        return
    make = encoders[options.kind].make
    if not images:
        raise UserError(
            f"learner.encoder={options.kind} is for images, and this environment has none; leave "
            "learner.encoder out"
        )
    options.check()
    if options.one_for_all_images and len(set(images.values())) > 1:
        raise UserError(
            "learner.encoder.one_for_all_images=true needs images of one shape, and the "
            f"environment has {_listed(images)}; set it to false"
        )
    for name, shape in images.items():
        try:
            # On the device that holds no numbers only sizes are worked out.
            with torch.device("meta"):
                make(options, 1, shape)
        except UserError as error:
            raise UserError(f"image {name!r}: {error}") from None


class ObservationEncoder(nn.Module):
    """Encoders of the images of an observation, their features joined with its vector.

    The features of the images come first, in the order of their names in ``images``, and the
    vector last. Without options, and without images, the vector is passed on.

    Args:
        options: of the encoder; None without one.
        num_seeds: S.
        vector_size: O, which may be 0.
        images: channels, height and width by name.
        convolutions_of: another observation encoder with the same options and images. Its
            convolutions are used, and no gradient of this encoder reaches them; the trunks are
            this encoder's own.

    Raises:
        UserError: as ``check_encoder``.
    """

    def __init__(
        self,
        options: ImageEncoderOptions | None,
        num_seeds: int,
        vector_size: int,
        images: Mapping[str, ImageShape],
        convolutions_of: "ObservationEncoder | None" = None,
    ) -> None:
        super().__init__()
        check_encoder(options, images)
        self.images = dict(images)
        self.vector_size = vector_size
        self.borrows = False
        one = options is not None and options.one_for_all_images
        self._encoder_of = {name: ALL_IMAGES if one else name for name in images}
        self.encoders = nn.ModuleDict()
        for name, shape in images.items():
            assert options is not None
            if self._key(name) not in self.encoders:
                make = encoders[options.kind].make
                self.encoders[self._key(name)] = make(options, num_seeds, shape)
        if convolutions_of is not None:
            self.borrow(convolutions_of)

    def borrow(self, other: "ObservationEncoder") -> None:
        """Use the convolutions of an encoder with the same options and images from now on.

        No gradient of this encoder reaches them; the trunks stay its own.
        """
        self.borrows = True
        for key, encoder in self.encoders.items():
            encoder.convolutions = other.encoders[key].convolutions

    @property
    def size(self) -> int:
        """F, of the features and the vector together."""
        features = (self.encoder_of(name).features for name in self.images)
        return sum(features) + self.vector_size

    def encoder_of(self, image: str) -> ImageEncoder:
        """The encoder that reads the image of this name."""
        encoder: Any = self.encoders[self._key(image)]
        return encoder

    def initialise(self, streams: Streams, name: str) -> None:
        """Draw the weights that are this encoder's own from streams named after ``name``."""
        for key, encoder in self.encoders.items():
            assert isinstance(encoder, ImageEncoder)
            encoder.initialise(streams, f"{name}.{key}", trunk_alone=self.borrows)

    def trained_parameters(self) -> list[nn.Parameter]:
        """The parameters that gradients of this encoder reach: all, or those of the trunks."""
        if not self.borrows:
            return list(self.parameters())
        trunks = (self.encoder_of(name).trunk for name in self.images)
        # A trunk that reads several images comes once.
        return list(dict.fromkeys(p for trunk in trunks for p in trunk.parameters()))

    def forward(
        self, vector: Float[Tensor, "S B O"], images: Mapping[str, Num[Tensor, "S B _ _ _"]]
    ) -> Float[Tensor, "S B F"]:
        """The features of an observation.

        Args:
            vector: O numbers, which may be 0.
            images: by name, uint8 or what ``shift_bilinear`` gives; all that the encoder was made
                for.

        Raises:
            UserError: if an image is missing, is not known, or has another shape.
        """
        if images.keys() != self.images.keys():
            raise UserError(
                f"an observation has the images {sorted(images)}, but the encoder was made for "
                f"{sorted(self.images)}; give it those"
            )
        features = [self._features(name, images[name]) for name in self.images]
        return torch.cat([*features, vector], dim=-1) if features else vector

    def _features(self, name: str, image: Tensor) -> Tensor:
        encoder = self.encoder_of(name)
        convolved = encoder.convolve(image)
        features: Tensor = encoder.trunk(convolved.detach() if self.borrows else convolved)
        return features

    def _key(self, image: str) -> str:
        # A name of a module may hold no dot.
        return self._encoder_of[image].replace(".", "_")


def actor_critic_encoders(
    options: ImageEncoderOptions | None,
    num_seeds: int,
    vector_size: int,
    images: Mapping[str, ImageShape],
) -> tuple[ObservationEncoder, ObservationEncoder]:
    """The encoders of an actor and of a critic, in this order.

    With ``options.shared`` both read the critic's convolutions, and only the critic's loss changes
    them, as DrQ does; the trunks are each network's own. Without it they have nothing in common.

    Raises:
        UserError: as ``check_encoder``.
    """
    critic = ObservationEncoder(options, num_seeds, vector_size, images)
    shares = options is not None and options.shared
    actor = ObservationEncoder(options, num_seeds, vector_size, images, critic if shares else None)
    return actor, critic


def _listed(images: Mapping[str, ImageShape]) -> str:
    named = ", ".join(f"{name!r} {sizes(shape)}" for name, shape in images.items())
    return f"the images {named}" if len(images) > 1 else f"the image {named}"
