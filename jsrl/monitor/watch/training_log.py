"""Logs the tests of a training run's monitor, for each layer over time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from jsrl.core.files import write_whole
from jsrl.core.observations import Observation
from jsrl.core.streams import Streams
from jsrl.loggers import Loggers
from jsrl.monitor.capture.samples import Sample
from jsrl.monitor.capture.steps import WatchedSteps
from jsrl.monitor.detectors.detector import rates_of_samples
from jsrl.monitor.detectors.rates import RateSettings
from jsrl.monitor.detectors.sanity import saturation_share, twin_disagreement
from jsrl.monitor.watch.embedding import draw_embedding
from jsrl.monitor.watch.episode_watch import Check

TwinValues = Callable[[Observation, Tensor], Tensor]

WatchKey = tuple[int, str, int]
"""The place of the seed, the phase and the stage."""


@dataclass(frozen=True)
class TestedEpisodes:
    """A test, with the reference and the episodes that were tested, if there are both."""

    check: Check
    sides: tuple[Sample, Sample] | None


class TrainingLog:
    """Logs the latest test of each seed and phase.

    Args:
        seeds: the S seeds.
        streams: the streams of the seeds; samples for the detection rates are drawn from them.
        rates: the settings of the detection rates.
        twin_values: the values of both critics, if the learner has two; see ``TrainingMonitor``.
        device: the device of the learner.
        bounded: whether actions have bounds to be at, which choices have not.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        streams: Streams,
        rates: RateSettings,
        twin_values: TwinValues | None,
        device: torch.device,
        bounded: bool,
    ) -> None:
        self._seeds = tuple(seeds)
        self._streams = streams
        self._settings = rates
        self._twin_values = twin_values
        self._device = device
        self._bounded = bounded

    def write(self, step: int, tested: Mapping[WatchKey, TestedEpisodes], loggers: Loggers) -> None:
        """Log p-values, rates, units, actions and critics, and histograms of the activations."""
        values: dict[str, list[float]] = {}
        for (index, phase, _), found in tested.items():
            for name, value in self._numbers(index, phase, step, found).items():
                values.setdefault(name, [float("nan")] * len(self._seeds))[index] = value
            if found.sides is None:
                continue
            of_seed = f"/seed_{self._seeds[index]}" if len(self._seeds) > 1 else ""
            for name, activations in found.sides[1].activations.items():
                tag = f"monitor/{phase}/{name}{of_seed}"
                loggers.histogram(tag, activations.cpu().numpy(), step)
        if values:
            loggers.log(step, "online", values)

    def _numbers(
        self, index: int, phase: str, step: int, found: TestedEpisodes
    ) -> dict[str, float]:
        numbers = {f"monitor/p_value/{phase}": found.check.p_value}
        for layer in found.check.finding.layers:
            numbers[f"monitor/p_value/{phase}/{layer.layer}"] = layer.p_value
            numbers[f"monitor/dead_units/{phase}/{layer.layer}"] = layer.dead_units
            numbers[f"monitor/saturated_units/{phase}/{layer.layer}"] = layer.saturated_units
        if found.sides is None:
            return numbers
        reference, recent = found.sides
        numbers |= self._rates(index, phase, step, reference, recent)
        if self._bounded:
            actions = torch.from_numpy(recent.steps.actions)
            numbers[f"monitor/saturated_actions/{phase}"] = saturation_share(actions)
        if self._twin_values is not None:
            disagreement = self._disagreement(self._twin_values, index, recent.steps)
            if disagreement is not None:
                numbers[f"monitor/twin_disagreement/{phase}"] = disagreement
        return numbers

    def _rates(
        self, index: int, phase: str, step: int, reference: Sample, recent: Sample
    ) -> dict[str, float]:
        """Detection rates, each beside the quantile that it has where both sides are reference."""
        seed = self._streams.select(index).integer("detection rate", phase, step)[0]
        generator = torch.Generator().manual_seed(seed)
        rates = rates_of_samples(reference, recent, self._settings, generator)
        numbers = {}
        for name, rate, quantile in zip(
            reference.activations, rates.rates, rates.null_quantiles, strict=True
        ):
            numbers[f"monitor/detection_rate/{phase}/{name}"] = float(rate)
            numbers[f"monitor/detection_rate_null/{phase}/{name}"] = float(quantile)
        return numbers

    def _disagreement(
        self, twin_values: TwinValues, index: int, steps: WatchedSteps
    ) -> float | None:
        """Of the first two critics; None where there is one only."""
        seeds = len(self._seeds)
        observed = steps.observed.to(self._device).for_each(lambda x: x.expand(seeds, *x.shape))
        actions = torch.from_numpy(steps.actions).to(self._device)
        values = twin_values(observed, actions.expand(seeds, *actions.shape))[index]
        return twin_disagreement(values[0], values[1]) if len(values) > 1 else None


def show_embedding(folder: Path, sides: tuple[Sample, Sample], step: int, loggers: Loggers) -> None:
    """Draw the reference and the latest episodes in a plane, in a file and for the loggers.

    Nothing is drawn of a network that is no longer finite.
    """
    arrays = [side.finite_activations() for side in sides]
    layers = {name: (first, arrays[1][name]) for name, first in arrays[0].items()}
    if not all(len(of_side) for both in layers.values() for of_side in both):
        return
    picture = draw_embedding(layers)
    write_whole(folder / "embedding.png", picture)
    loggers.image("monitor/embedding", picture, step)
    for name, (first, second) in layers.items():
        labels = ["reference"] * len(first) + ["latest"] * len(second)
        loggers.embedding(f"monitor/{name}", np.concatenate([first, second]), labels, step)
