"""Checks of the two sides of a test that a user gives, with errors that say what is wrong."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from jsrl.core.errors import UserError


def checked_samples(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Samples ``[N, D]`` and ``[M, D]`` of one floating type; whole numbers become float64.

    Raises:
        UserError: if a shape, a type or a device does not fit, there are fewer than two samples on
            a side, or a number is not finite.
    """
    return _checked(x, y, "", ("N", "D"), ("M", "D"))


def checked_layers(x: Sequence[Tensor], y: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """For each layer T sets of samples, ``[T, N, D]`` and ``[T, M, D]``; layers may differ in D.

    Raises:
        UserError: if a layer does not fit as in ``checked_samples``, or has another number of sets
            or samples than the first one.
    """
    if not x or len(x) != len(y):
        raise UserError(f"expected as many layers in y ({len(y)}) as in x ({len(x)}), at least 1")
    found = []
    for number, (of_x, of_y) in enumerate(zip(x, y, strict=True)):
        of_layer = f" of layer {number}" if len(x) > 1 else ""
        found.append(_checked(of_x, of_y, of_layer, ("T", "N", "D"), ("T", "M", "D")))
        for name, side, first in zip("xy", found[-1], found[0], strict=True):
            if side.shape[:2] != first.shape[:2]:
                raise UserError(
                    f"{name}{of_layer} has shape {tuple(side.shape)}, that of layer 0 "
                    f"{tuple(first.shape)}; all layers are tested under the same permutations: "
                    "give the same sets of the same samples of each"
                )
    return [of_x for of_x, _ in found], [of_y for _, of_y in found]


def _checked(
    x: Tensor, y: Tensor, of_layer: str, shape_x: tuple[str, ...], shape_y: tuple[str, ...]
) -> tuple[Tensor, Tensor]:
    for name, samples in (("x", x), ("y", y)):
        _require_numbers(samples, f"{name}{of_layer}")
    same = x.ndim == y.ndim == len(shape_x) and x.shape[-1] == y.shape[-1]
    if not same or x.shape[:-2] != y.shape[:-2] or 0 in (*x.shape[:-2], x.shape[-1]):
        raise UserError(
            f"x{of_layer} has shape {tuple(x.shape)} and y {tuple(y.shape)}; expected "
            f"[{', '.join(shape_x)}] and [{', '.join(shape_y)}] with the same "
            f"{' and '.join(n for n in shape_x if n in shape_y)}, at least 1"
        )
    if x.device != y.device:
        raise UserError(f"x{of_layer} is on {x.device} and y on {y.device}; move one to the other")
    for name, samples in (("x", x), ("y", y)):
        if samples.shape[-2] < 2:
            raise UserError(
                f"{name}{of_layer} has {samples.shape[-2]} samples; a test needs at least 2"
            )
        _require_finite(samples, f"{name}{of_layer}")
    return _floating(x, y)


def _require_numbers(samples: Any, name: str) -> None:
    if not isinstance(samples, Tensor):
        raise UserError(f"{name} is a {type(samples).__name__}; expected a torch.Tensor")
    if samples.is_complex():
        raise UserError(f"{name} holds complex numbers; give real and imaginary parts as columns")


def _require_finite(samples: Tensor, name: str) -> None:
    finite = samples.isfinite()
    if bool(finite.all()):
        return
    where = ""
    if samples.ndim == 3:
        sets = (~finite).any(-1).any(-1).nonzero()[:, 0].tolist()
        where = f", in sets {sets[:10]}" + (" and others" if len(sets) > 10 else "")
    raise UserError(
        f"{name} has {int((~finite).sum())} numbers that are not finite{where}; that is a fault by "
        "itself: look at it, and leave these samples out of the test"
    )


def _floating(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float64, or in float32 if both are of that or a shorter floating type."""
    short = (torch.float32, torch.float16, torch.bfloat16)
    of_both = torch.float32 if x.dtype in short and y.dtype in short else torch.float64
    return x.detach().to(of_both), y.detach().to(of_both)
