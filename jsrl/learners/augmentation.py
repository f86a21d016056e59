"""Random shifts of a minibatch's images, by whole pixels, as DrQ has them."""

from dataclasses import replace

from jsrl.core.observations import Observation
from jsrl.core.protocols import Draws
from jsrl.core.streams import Streams
from jsrl.core.transitions import TransitionBatch
from jsrl.learners.options import LearnerInputs, LearnerOptions
from jsrl.networks.encoders.encoder import encoder_options
from jsrl.networks.encoders.shifts import draw_shifts, shift

NOW, AFTER = "shift", "next_shift"
"""What the draws are called, of an observation and of its successor; the image's name follows."""


class RandomShifts:
    """Shifts the images before and after a transition, each by draws of its own.

    Kostrikov, Yarats and Fergus 2020, arXiv 2004.13649, section 3.1.

    Args:
        options: of the learner, with its encoder and the size of its minibatches.
        inputs: of the learner.
    """

    def __init__(self, options: LearnerOptions, inputs: LearnerInputs) -> None:
        encoder = encoder_options(options.encoder)
        self.pixels = 0 if encoder is None else encoder.shift
        self._images = tuple(inputs.observation.image_shapes) if self.pixels else ()
        self._batch_size = options.batch_size
        self._device = inputs.device

    def draws(self, streams: Streams) -> Draws:
        """Shifts ``[S, B, 2]`` of each image; nothing where images are not shifted."""
        return {
            f"{when}.{name}": draw_shifts(
                streams, f"{when}_{name}", self._batch_size, self.pixels
            ).to(self._device, non_blocking=True)
            for when in (NOW, AFTER)
            for name in self._images
        }

    def apply(self, batch: TransitionBatch, draws: Draws) -> TransitionBatch:
        """The minibatch with its images shifted."""
        if not self._images:
            return batch
        return replace(
            batch,
            observation=self._shifted(batch.observation, draws, NOW),
            next_observation=self._shifted(batch.next_observation, draws, AFTER),
        )

    def _shifted(self, observation: Observation, draws: Draws, when: str) -> Observation:
        images = {
            name: shift(image, draws[f"{when}.{name}"], self.pixels)
            for name, image in observation.images.items()
        }
        return Observation(observation.vector, images)
