"""Writes the reference of a deployed monitor, and reads it in another process."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.core.protocols import SavablePolicy, SeesImages
from jsrl.monitor.capture.layers import LayerCapture, has_memory
from jsrl.monitor.capture.recording import Recording
from jsrl.monitor.capture.recording_files import require_same_network
from jsrl.monitor.capture.recording_writer import RecordingWriter
from jsrl.monitor.capture.samples import Sample, as_arrays
from jsrl.monitor.capture.steps import WatchedSteps


def write_reference(folder: Path, episodes: Sequence[Sample], interval: int) -> None:
    """Write at least one episode, numbered anew, in the place of what the folder held.

    Raises:
        UserError: if it cannot be written.
    """
    sizes = {n: v.shape[1] for n, v in episodes[0].activations.items()}
    writer = RecordingWriter(folder, sizes, chunks=None, interval=interval)
    writer.clear()
    for number, sample in enumerate(episodes):
        steps = replace(sample.steps, episode=np.full(len(sample.steps), number))
        writer.add(steps, as_arrays(sample.activations))
    writer.complete()


def read_reference(
    folder: Path, capture: LayerCapture, interval: int, wanted: int, seed: int | None
) -> Iterator[Sample]:
    """The latest episodes of a recording, as the network sees them now.

    Recordings hold no images, and no hidden states. So of a network that sees images, or that has
    recurrent layers, the activations are those that were recorded, which has to be by the same
    network, since nothing else can be compared.

    Args:
        folder: the folder of the recording.
        capture: the layers of the network.
        interval: the steps from one that is watched to the next.
        wanted: how many episodes are read.
        seed: whose episodes are read; needed where a recording holds several seeds.

    Raises:
        UserError: if the recording is of another network, of another interval, or too short.
    """
    recording = Recording(folder)
    if recording.interval != interval:
        raise UserError(
            f"{folder} was recorded every {recording.interval} steps, this monitor looks every "
            f"{interval}: use interval={recording.interval}"
        )
    module = capture.module
    sees_images = isinstance(module, SeesImages) and bool(module.images)
    recorded = sees_images or has_memory(module)
    episodes = recording.samples(capture.layers if recorded else (), seed=seed)
    seeds = sorted({int(episode.steps.seed[0]) for episode in episodes})
    if len(seeds) > 1:
        raise UserError(f"{folder} holds seeds {seeds}; name one of them by seed=")
    if len(episodes) < wanted:
        raise UserError(
            f"{folder} holds {len(episodes)} episodes; this monitor has reference={wanted}"
        )
    for episode in episodes[-wanted:]:
        steps = episode.steps
        said = episode.activations if recorded else _activations(steps, recording, capture)
        yield Sample(steps, {name: values.to(capture.device) for name, values in said.items()})


def _activations(
    episode: WatchedSteps, recording: Recording, capture: LayerCapture
) -> dict[str, Tensor]:
    observed = episode.observed.to(capture.device)
    # A policy of this package has an axis of seeds, here of one.
    has_seeds = isinstance(capture.module, SavablePolicy)
    if has_seeds:
        observed = observed[None]
    try:
        found = capture.observe(observed) if has_seeds else capture.forward(observed.vector)
    except RuntimeError as error:
        raise UserError(
            f"{recording.folder} does not fit: the policy, called with its observations as "
            f"{list(observed.vector.shape)}, says {error}; it is of another network, or of one "
            "whose observations have more axes"
        ) from error
    activations = {n: v.reshape(len(episode), -1) for n, v in found.items()}
    shared = {n: v.shape[1] for n, v in activations.items() if n in recording.sizes}
    known = {n: size for n, size in recording.sizes.items() if n in shared}
    require_same_network({"layers": known}, shared, recording.folder)
    return activations
