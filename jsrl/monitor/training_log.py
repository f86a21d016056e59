"""What a run that trains writes down about its monitor's tests, for each layer over time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from jsrl.files import write_whole
from jsrl.loggers import Loggers
from jsrl.monitor.detector import Sample, finite_activations, rates_of_samples
from jsrl.monitor.figures import draw_embedding
from jsrl.monitor.rates import RateSettings
from jsrl.monitor.rows import Rows
from jsrl.monitor.sanity import saturation_share, twin_disagreement
from jsrl.monitor.watch import Check
from jsrl.seeding import Streams

TwinValues = Callable[[Tensor, Tensor], Tensor]

WatchKey = tuple[int, str, int]
"""Place of the seed, phase, stage."""


@dataclass(frozen=True)
class Tested:
    """A test, and the reference with the episodes that were held against it, if there are both."""

    check: Check
    sides: tuple[Sample, Sample] | None


class TrainingLog:
    """Writes the latest test of each seed and phase.

    Args:
        seeds: S of them.
        streams: of the seeds: samples for the detection rates are drawn from them.
        rates: of the detection rates.
        twin_values: of the learner, if it has two critics; see ``TrainingMonitor``.
        device: of the learner.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        streams: Streams,
        rates: RateSettings,
        twin_values: TwinValues | None,
        device: torch.device,
    ) -> None:
        self._seeds = tuple(seeds)
        self._streams = streams
        self._settings = rates
        self._twin_values = twin_values
        self._device = device

    def write(self, step: int, tested: Mapping[WatchKey, Tested], loggers: Loggers) -> None:
        """p-values, rates, units, actions and critics; histograms of the activations."""
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

    def _numbers(self, index: int, phase: str, step: int, found: Tested) -> dict[str, float]:
        numbers = {f"monitor/p_value/{phase}": found.check.p_value}
        for layer in found.check.finding.layers:
            numbers[f"monitor/p_value/{phase}/{layer.layer}"] = layer.p_value
            numbers[f"monitor/dead_units/{phase}/{layer.layer}"] = layer.dead_units
            numbers[f"monitor/saturated_units/{phase}/{layer.layer}"] = layer.saturated_units
        if found.sides is None:
            return numbers
        reference, recent = found.sides
        numbers |= self._rates(index, phase, step, reference, recent)
        actions = torch.from_numpy(recent.rows.actions)
        numbers[f"monitor/saturated_actions/{phase}"] = saturation_share(actions)
        if self._twin_values is not None:
            disagreement = self._disagreement(self._twin_values, index, recent.rows)
            numbers[f"monitor/twin_disagreement/{phase}"] = disagreement
        return numbers

    def _rates(
        self, index: int, phase: str, step: int, reference: Sample, recent: Sample
    ) -> dict[str, float]:
        """Detection rates, each beside what it is where both sides are reference."""
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

    def _disagreement(self, twin_values: TwinValues, index: int, rows: Rows) -> float:
        observations, actions = (
            torch.from_numpy(part).to(self._device).expand(len(self._seeds), *part.shape)
            for part in (rows.observations, rows.actions)
        )
        values = twin_values(observations, actions)[index]
        return twin_disagreement(values[0], values[1])


def show_embedding(folder: Path, sides: tuple[Sample, Sample], step: int, loggers: Loggers) -> None:
    """Draw reference and latest episodes in a plane: a file, TensorBoard, and its projector.

    Of a network that is no longer finite there is nothing to draw.
    """
    arrays = [finite_activations(side) for side in sides]
    layers = {name: (first, arrays[1][name]) for name, first in arrays[0].items()}
    if not all(len(of_side) for both in layers.values() for of_side in both):
        return
    picture = draw_embedding(layers)
    write_whole(folder / "embedding.png", picture)
    loggers.image("monitor/embedding", picture, step)
    for name, (first, second) in layers.items():
        labels = ["reference"] * len(first) + ["latest"] * len(second)
        loggers.embedding(f"monitor/{name}", np.concatenate([first, second]), labels, step)
