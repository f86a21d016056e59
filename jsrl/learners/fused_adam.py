"""One step of Adam for lists of tensors: PyTorch's fused kernel where it is known, else our own.

Adam is Algorithm 1 of Kingma and Ba (2015, arXiv:1412.6980), without weight decay. PyTorch's fused
kernel is several times as fast on a CPU as the same step written with PyTorch's operators, but it
is private: a later version may change it without notice. Everything that knows of it is therefore
in this file, and it is used only with versions of PyTorch in which it has been read and tested.
"""

import re
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

FIRST_DECAY, SECOND_DECAY, EPSILON = 0.9, 0.999, 1e-8
"""Adam's constants, as the paper recommends them."""
VECTOR_WIDTH = 16
"""float32 numbers in the widest vector register of a CPU (AVX-512)."""
KNOWN_FROM, KNOWN_BEFORE = (2, 6), (2, 14)
"""The versions of PyTorch, as (major, minor), whose fused kernel is used."""
ARGUMENTS = (
    *("self", "grads", "exp_avgs", "exp_avg_sqs", "max_exp_avg_sqs", "state_steps", "lr", "beta1"),
    *("beta2", "weight_decay", "eps", "amsgrad", "maximize", "grad_scale", "found_inf"),
)
"""What the kernel takes in those versions, in this order."""


def fused_kernel_is_known(version: str) -> bool:
    """Whether a version of PyTorch, such as ``2.13.0+cpu``, has the fused kernel as known here."""
    number = re.match(r"(\d+)\.(\d+)", version)
    if number is None or not KNOWN_FROM <= (int(number[1]), int(number[2])) < KNOWN_BEFORE:
        return False
    packet = getattr(torch.ops.aten, "_fused_adam_", None)
    if packet is None or not hasattr(torch, "_fused_adam_"):
        return False
    return tuple(argument.name for argument in packet.default._schema.arguments) == ARGUMENTS


FUSED_KERNEL_IS_KNOWN = fused_kernel_is_known(torch.__version__)

if not FUSED_KERNEL_IS_KNOWN:
    warnings.warn(
        f"PyTorch {torch.__version__} is not among the versions whose fused Adam is known here "
        f"({'.'.join(map(str, KNOWN_FROM))} up to but excluding "
        f"{'.'.join(map(str, KNOWN_BEFORE))}): updates are slower, and equal to those of the fused "
        "kernel only up to rounding",
        stacklevel=2,
    )


def fused_step(
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor],
    first: Sequence[Tensor],
    second: Sequence[Tensor],
    step: Tensor,
    rate: float,
) -> None:
    """One step of Adam in place, by PyTorch's fused kernel.

    Args:
        parameters: float32 of any shapes; changed in place.
        gradients: of the same shapes.
        first: the running averages of the gradients; changed in place.
        second: the running averages of their squares; changed in place.
        step: a tensor without dimensions: the number of this step, from 1.
        rate: the learning rate.
    """
    torch._fused_adam_(
        list(parameters),
        list(gradients),
        list(first),
        list(second),
        [],
        [step] * len(parameters),
        lr=rate,
        beta1=FIRST_DECAY,
        beta2=SECOND_DECAY,
        weight_decay=0.0,
        eps=EPSILON,
        amsgrad=False,
        maximize=False,
    )


def elementwise_step(
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor],
    first: Sequence[Tensor],
    second: Sequence[Tensor],
    size: Tensor,
    scale: Tensor,
) -> None:
    """One step of Adam in place, written with PyTorch's public operators; it can be compiled.

    Args:
        parameters: float32 of any shapes; changed in place.
        gradients: of the same shapes.
        first: the running averages of the gradients; changed in place.
        second: the running averages of their squares; changed in place.
        size: a tensor without dimensions: the learning rate over 1 - β₁ᵗ, in step t.
        scale: a tensor without dimensions: 1 over the square root of 1 - β₂ᵗ.
    """
    for p, g, m, v in zip(parameters, gradients, first, second, strict=True):
        m.lerp_(g, 1 - FIRST_DECAY)
        v.lerp_(g * g, 1 - SECOND_DECAY)
        p.sub_(size * m / (v.sqrt() * scale + EPSILON))


def whole_registers(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Tensors ``[S, …]``, taken apart into seeds where a seed does not fill whole registers.

    PyTorch's kernels may round what is left over after whole vector registers in another way;
    there a seed's numbers would depend on its place in the tensor.
    """
    parts: list[Tensor] = []
    for tensor in tensors:
        tensor = tensor.detach().contiguous()
        whole = len(tensor) == 1 or tensor[0].numel() % VECTOR_WIDTH == 0
        parts += [tensor] if whole else tensor.unbind()
    return parts
