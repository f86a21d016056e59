"""Supervised tasks on which the effect of smooth activations is known, to compare with.

Shamir, Lin and Coviello 2020 (arXiv 2010.09931) measured it on models of probabilities; here are a
regression on a smooth function and the classification of a small real data set.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.core.streams import seed_sequence

Losses = Callable[[Float[Tensor, "S B K"], Tensor], Float[Tensor, "S B"]]

TEACHER_INPUTS, TEACHER_UNITS = 16, 32
TRAINED, HELD_OUT = 5000, 2000
DIGITS_HELD_OUT = 500
CLASSES = 10


@dataclass(frozen=True)
class SupervisedTask:
    """Examples to learn from and others to compare predictions on.

    Args:
        name: a key of ``TASKS``.
        inputs: to learn from.
        targets: ``[N]``, numbers or classes.
        held_out: inputs that are not learnt from.
        held_out_targets: their targets.
        outputs: K, of the network: 1, or a logit a class.
    """

    name: str
    inputs: Float[NDArray[np.float32], "N O"]
    targets: NDArray[np.generic]
    held_out: Float[NDArray[np.float32], "H O"]
    held_out_targets: NDArray[np.generic]
    outputs: int

    @property
    def classifies(self) -> bool:
        return self.outputs > 1

    def losses(self, outputs: Float[Tensor, "S B K"], targets: Tensor) -> Float[Tensor, "S B"]:
        """Squared errors, or cross-entropies, of the examples of each seed; targets ``[S, B]``."""
        if not self.classifies:
            return (outputs[..., 0] - targets).square()
        scores = torch.log_softmax(outputs, -1)
        return -scores.gather(-1, targets.unsqueeze(-1))[..., 0]

    def predictions(self, outputs: Float[Tensor, "S H K"], targets: Tensor) -> Float[Tensor, "S H"]:
        """What is compared between models: the number, or the probability of the right class."""
        if not self.classifies:
            return outputs[..., 0]
        chances = torch.softmax(outputs, -1)
        return chances.gather(-1, targets.expand(len(outputs), -1).unsqueeze(-1))[..., 0]


def make_task(name: str, seed: int) -> SupervisedTask:
    """The task of that name; ``seed`` draws its examples.

    Raises:
        UserError: if there is none, or scikit-learn is missing for it.
    """
    if name not in TASKS:
        raise UserError(f"supervised.task={name!r} is unknown; choose one of {', '.join(TASKS)}")
    return TASKS[name](seed)


def smooth_teacher(seed: int) -> SupervisedTask:
    """A random smooth function of 16 numbers with values in (0.5, 1.5), away from 0.

    1 + tanh(v·tanh(Wx))/2 for standard normal x.
    """
    draws = np.random.default_rng(seed_sequence(seed, "smooth teacher"))
    first = draws.standard_normal((TEACHER_INPUTS, TEACHER_UNITS)) * 1.5 / np.sqrt(TEACHER_INPUTS)
    second = draws.standard_normal(TEACHER_UNITS) * 2 / np.sqrt(TEACHER_UNITS)
    inputs = draws.standard_normal((TRAINED + HELD_OUT, TEACHER_INPUTS))
    targets = 1 + 0.5 * np.tanh(np.tanh(inputs @ first) @ second)
    x, y = inputs.astype(np.float32), targets.astype(np.float32)
    return SupervisedTask(
        "smooth_teacher", x[:TRAINED], y[:TRAINED], x[TRAINED:], y[TRAINED:], outputs=1
    )


def digits(seed: int) -> SupervisedTask:
    """Handwritten digits of 8 by 8 pixels, 1,797 of them, as scikit-learn ships them."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UserError(
            "supervised.task=digits needs scikit-learn, which is not installed; pip install "
            "'jsrl-torch[supervised]', or choose supervised.task=smooth_teacher"
        ) from error
    data = load_digits()
    draws = np.random.default_rng(seed_sequence(seed, "digits"))
    order: Int64[np.ndarray, " N"] = draws.permutation(len(data.target))
    # Grey levels from 0 to 16, to a mean near 0 and a spread near 1.
    x, y = ((data.data[order] - 5) / 6).astype(np.float32), data.target[order].astype(np.int64)
    held, rest = slice(DIGITS_HELD_OUT), slice(DIGITS_HELD_OUT, None)
    return SupervisedTask("digits", x[rest], y[rest], x[held], y[held], outputs=CLASSES)


TASKS: dict[str, Callable[[int], SupervisedTask]] = {
    "smooth_teacher": smooth_teacher,
    "digits": digits,
}
