"""The study of attacks on a classifier: any network from rows to logits.

Shapes: N rows, O numbers of a row in any shape, n classes.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from jsrl.core.errors import UserError
from jsrl.core.loading import load_attribute
from jsrl.core.streams import Streams
from jsrl.monitor.capture.layers import LayerCapture
from jsrl.monitor.capture.samples import Sample
from jsrl.monitor.capture.steps import ACTORS, PHASES, WatchedSteps
from jsrl.monitor.studies.attack_adaptive import Activations, half_widths, keeps_statistics
from jsrl.monitor.studies.attack_columns import named_columns, tied_columns
from jsrl.monitor.studies.attack_detection import WindowSettings, rejections
from jsrl.monitor.studies.attack_goals import another_choice
from jsrl.monitor.studies.attack_records import ACCURACY, CHANGE, CLEAN, NOISE, Row
from jsrl.monitor.studies.attacks import AttackOptions, Ball, Objective, attacks
from jsrl.monitor.studies.attacks.base import LOWEST_Q, sizes_of


def load_model(target: str) -> nn.Module:
    """What ``model=module:factory`` makes, or is; its code runs.

    Raises:
        UserError: if it is no network.
    """
    made = load_attribute(target, "model")
    if not isinstance(made, nn.Module):
        made = made()
    if not isinstance(made, nn.Module):
        raise UserError(
            f"model={target!r} gave {type(made).__name__}; a function without arguments that "
            "returns a torch.nn.Module was expected"
        )
    return made.eval().requires_grad_(False)


def load_labelled(path: Path) -> tuple[Float[Tensor, "N ..."], Int[Tensor, " N"]]:
    """``inputs`` and ``labels`` of an npz file.

    Raises:
        UserError: if it is not there, or lacks one of them.
    """
    if not path.is_file():
        raise UserError(f"data={str(path)!r} does not exist; give an npz file of inputs and labels")
    try:
        with np.load(path) as file:
            arrays = {name: file[name] for name in ("inputs", "labels")}
    except (KeyError, ValueError, OSError) as error:
        raise UserError(
            f"data={str(path)!r} must be an npz file with the arrays inputs and labels: {error}"
        ) from error
    inputs, labels = arrays["inputs"], arrays["labels"]
    if labels.shape != inputs.shape[:1] or labels.dtype.kind not in "iu":
        raise UserError(
            f"data={str(path)!r}: labels have the shape {labels.shape} and hold {labels.dtype}; "
            f"one whole number for each of {len(inputs)} inputs was expected"
        )
    if not np.isfinite(inputs).all():
        raise UserError(f"data={str(path)!r}: inputs have numbers that are not finite")
    rows = torch.from_numpy(inputs.astype(np.float32))
    return rows, torch.from_numpy(labels.astype(np.int64))


class ModelUnderAttack:
    """A classifier, and samples with their classes; the first ones are trusted.

    Each sample is a request of its own: what the monitor permutes are single samples.

    Args:
        model: rows ``[N, ...]`` to logits ``[N, n]``.
        inputs: the samples, of which the first ``windows.reference`` are the reference.
        labels: their classes.
        layers: a regular expression of the layers that are watched.
        options: of the attack.
        windows: how many samples are trusted, and how many are tested together.
        seed: of all draws.

    Raises:
        UserError: if there are too few samples, or the options are not for a classifier.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Float[Tensor, "N ..."],
        labels: Int[Tensor, " N"],
        layers: str,
        options: AttackOptions,
        windows: WindowSettings,
        seed: int,
    ) -> None:
        needed = windows.reference + windows.window
        if len(inputs) < needed:
            raise UserError(
                f"data has {len(inputs)} samples; reference={windows.reference} and "
                f"window={windows.window} need at least {needed}"
            )
        if options.goal == LOWEST_Q:
            raise UserError("attack.goal=lowest_q is for policies of a run; use attack.goal=action")
        self._model, self._shape = model, inputs.shape[1:]
        self._options, self._windows, self._seed = options, windows, seed
        self._capture = LayerCapture(model, layers)
        rows = inputs.flatten(1)
        self._trusted, self._rows = rows[: windows.reference], rows[windows.reference :]
        self._labels = labels[windows.reference :]
        layout = [("input", 0, rows.shape[1])]
        self._frozen = named_columns(options.frozen, layout, "attack.frozen")
        self._tied = tied_columns(options.tied, layout)
        self._spread = self._trusted.std(0)
        self._reference = self._sample(self._trusted)
        self._objective = self._adapted(another_choice(self._logits))

    def study(self) -> Iterator[Row]:
        """The row without an attack, then the attack and the control at every size."""
        yield self._row(CLEAN, 0.0, self._rows)
        for kind in dict.fromkeys((self._options.kind, NOISE)):
            own = kind == self._options.kind
            options: Any = self._options if own else attacks[kind].options(kind)
            for epsilon in self._options.epsilons:
                attack, ball = attacks.build(options), self._ball(epsilon)
                streams = Streams([self._seed], ("attack study", kind))
                attack.fit(self._objective, self._trusted, ball, streams)
                moved = attack.perturbation(self._objective, self._rows, ball, streams)
                yield self._row(kind, epsilon, self._rows + moved)

    def _logits(self, rows: Float[Tensor, "N O"]) -> Float[Tensor, "N n"]:
        found: Any = self._model(rows.reshape(len(rows), *self._shape))
        if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != len(rows):
            shape = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise UserError(
                f"the model answers {shape} for {len(rows)} samples; a tensor of logits "
                f"[{len(rows)}, classes] was expected"
            )
        return found

    def _row(self, kind: str, epsilon: float, rows: Float[Tensor, "N O"]) -> Row:
        with torch.no_grad():
            chosen, before = (self._logits(given).argmax(-1) for given in (rows, self._rows))
        measures = {
            ACCURACY: float((chosen == self._labels).double().mean()),
            CHANGE: float((chosen != before).double().mean()),
        }
        tested, single = self._sample(rows), np.arange(len(rows))
        rejected = rejections(
            [self._reference.take(np.array([i])) for i in range(len(self._trusted))],
            [tested.take(np.array([i])) for i in single],
            self._windows,
        )
        return Row(None, kind, epsilon, measures, rejected)

    def _sample(self, rows: Float[Tensor, "N O"]) -> Sample:
        """The rows as requests with the activations of the model in them."""
        shaped = rows.reshape(len(rows), *self._shape)
        seen = {name: v.flatten(1) for name, v in self._capture.forward(shaped).items()}
        with torch.no_grad():
            answers = 2 * torch.softmax(self._logits(rows), -1) - 1
        numbers, none = np.arange(len(rows)), np.zeros(len(rows), np.int64)
        steps = WatchedSteps(
            *(rows.numpy(), answers.numpy(), numbers, numbers, none),
            *(none + PHASES.index("deployed"), none - 1),
            *(none + ACTORS.index("exploration"), none),
        )
        return Sample(steps, seen)

    def _adapted(self, objective: Objective) -> Objective:
        if not self._options.adaptive:
            return objective
        activations = Activations(self._model, self._capture.layers, self._logits)
        widths = self._widths(activations.trusted(self._reference.activations))
        return keeps_statistics(objective, activations, widths, self._options.penalty)

    def _widths(self, values: Float[Tensor, "N D"]) -> Float[Tensor, " D"]:
        return half_widths(values, self._reference.steps.episode, self._options.quantile)

    def _ball(self, epsilon: float) -> Ball:
        sizes = sizes_of(self._options, epsilon, self._spread)
        if self._options.adaptive:
            sizes = torch.minimum(sizes, self._widths(self._trusted))
        return Ball.of(sizes, self._tied, self._frozen)
