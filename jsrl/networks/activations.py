"""Activation functions by name, as named modules, so that hooks and export find them."""

import functools
import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from jsrl.core.errors import UserError

Activation = str | Mapping[str, Any]
"""An activation as a plain value: its name, or ``{"name": …}`` with its parameters."""

REGISTERS = 32
"""How many float32 numbers PyTorch's loops take at once where registers are widest (AVX-512, two of
them). Narrower ones take 16 or 8, which divide it."""


class GSmeLU(nn.Module):
    """Two lines joined by a parabola: the generalised smooth ReLU.

    Shamir, Lin and Coviello 2020 (arXiv 2010.09931), section 4. Below ``-alpha`` the slope is
    ``negative_slope``, above ``beta`` it is ``positive_slope``; between them it grows linearly, so
    that the derivative is continuous. At ``-alpha`` the value is ``offset``.

    Values and first and second derivatives are exact, in any shape and type of floating point.

    Args:
        negative_slope: g₋, of the left line.
        positive_slope: g₊, of the right line.
        alpha: the parabola begins at -alpha, which is at most 0,
        beta: and ends at beta, which is at least 0.
        offset: the value at -alpha.

    Raises:
        UserError: if ``alpha`` or ``beta`` is negative, or a parameter is not finite.
    """

    def __init__(
        self,
        negative_slope: float = 0.0,
        positive_slope: float = 1.0,
        alpha: float = 1.0,
        beta: float = 1.0,
        offset: float = 0.0,
    ) -> None:
        super().__init__()
        _require_at_least_0("alpha", alpha)
        _require_at_least_0("beta", beta)
        self.negative_slope = _finite("negative_slope", negative_slope)
        self.positive_slope = _finite("positive_slope", positive_slope)
        self.alpha = float(alpha)
        self.beta = float(beta)
        self.offset = _finite("offset", offset)

    def forward(self, x: Tensor) -> Tensor:
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            return self.composed(x)
        return self._joined(x)

    @torch.jit.unused
    def _joined(self, x: Tensor) -> Tensor:
        """What TorchScript does not see, and need not understand."""
        tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        # Exporters and compilers follow PyTorch's own operations only, and fuse them.
        if tracing or torch.compiler.is_compiling():
            return self.composed(x)
        parameters = (self.negative_slope, self.positive_slope, self.alpha, self.beta)
        joined = _Joined.apply(x, *parameters, self.offset)  # type: ignore[no-untyped-call]
        value: Tensor = joined[0]
        return value

    def composed(self, x: Tensor) -> Tensor:
        """The function by differentiable operations, each of which keeps something for backward."""
        width = self.alpha + self.beta
        rise = torch.relu(x - self.beta)
        if width > 0:
            inside = torch.clamp(x + self.alpha, 0.0, width)
            rise = rise + inside * inside / (2 * width)
        result = (self.positive_slope - self.negative_slope) * rise
        if self.negative_slope != 0 or self.offset != 0:
            result = result + self.negative_slope * (x + self.alpha) + self.offset
        return result

    def extra_repr(self) -> str:
        names = ("negative_slope", "positive_slope", "alpha", "beta", "offset")
        return ", ".join(f"{name}={getattr(self, name):g}" for name in names)


class SmeLU(GSmeLU):
    """Smooth ReLU: 0 up to -β, (x + β)²/(4β) to β, x from there; β = 0 is ReLU.

    Shamir, Lin and Coviello 2020 (arXiv 2010.09931), equation 3.

    Args:
        beta: β, half the width of the parabola.

    Raises:
        UserError: if it is negative or not finite.
    """

    def __init__(self, beta: float = 1.0) -> None:
        _require_at_least_0("beta", beta)
        super().__init__(0.0, 1.0, beta, beta, 0.0)

    def extra_repr(self) -> str:
        return f"beta={self.beta:g}"


class _AtAnyPlace(nn.Module, ABC):
    """A function of PyTorch's, of each element, rounded the same at any place among others.

    PyTorch rounds GELU, SiLU and softplus differently for the last elements, which do not fill a
    vector register, so that a seed's would depend on its company. Rows are therefore filled up.
    """

    def __init__(self) -> None:
        super().__init__()

    @abstractmethod
    def function(self, x: Tensor) -> Tensor:
        """What is computed, elementwise."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            return self.function(x)
        return self._placed(x)

    @torch.jit.unused
    def _placed(self, x: Tensor) -> Tensor:
        """What TorchScript does not see, and need not understand."""
        tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        # Exported, a policy has no company; a compiled one is rounded as the compiler likes.
        if tracing or torch.compiler.is_compiling():
            return self.function(x)
        missing = -x.shape[-1] % REGISTERS if x.dim() else 0
        if missing == 0:
            return self.function(x)
        return self.function(nn.functional.pad(x, (0, missing)))[..., : x.shape[-1]]


class Gelu(_AtAnyPlace):
    """x·Φ(x), Φ the distribution function of the standard normal (Hendrycks and Gimpel 2016)."""

    def function(self, x: Tensor) -> Tensor:
        return nn.functional.gelu(x)


class Swish(_AtAnyPlace):
    """x·sigmoid(βx) (Ramachandran, Zoph and Le 2017); β = 1 is SiLU.

    Args:
        beta: β, above 0.

    Raises:
        UserError: if it is not.
    """

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__()
        self.beta = _above_0("beta", beta)

    def function(self, x: Tensor) -> Tensor:
        if self.beta == 1.0:
            return nn.functional.silu(x)
        return nn.functional.silu(self.beta * x) / self.beta

    def extra_repr(self) -> str:
        return f"beta={self.beta:g}"


class Softplus(_AtAnyPlace):
    """log(1 + exp(βx))/β, for β > 0.

    Raises:
        UserError: if β is not above 0.
    """

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__()
        self.beta = _above_0("beta", beta)

    def function(self, x: Tensor) -> Tensor:
        return nn.functional.softplus(x, self.beta)

    def extra_repr(self) -> str:
        return f"beta={self.beta:g}"


ACTIVATIONS: dict[str, Callable[..., nn.Module]] = {
    "relu": nn.ReLU,
    "smelu": SmeLU,
    "gsmelu": GSmeLU,
    "gelu": Gelu,
    "silu": Swish,
    "softplus": Softplus,
    "tanh": nn.Tanh,
}

PARAMETERS: dict[str, tuple[str, ...]] = {
    name: tuple(inspect.signature(make).parameters) if make.__module__ == __name__ else ()
    for name, make in ACTIVATIONS.items()
}
"""What each activation can be given beside its name; all have defaults."""


def make_activation(activation: Activation, key: str = "activation") -> nn.Module:
    """A fresh activation module.

    Args:
        activation: a name of ``ACTIVATIONS``, or a mapping of ``name`` and parameters.
        key: what holds it in the configuration, for messages.

    Raises:
        UserError: if there is none of that name, or a parameter is not its own or out of range.
    """
    name, given = _split(activation)
    if name not in ACTIVATIONS:
        raise UserError(f"{key}.name={name!r} is unknown; choose one of {sorted(ACTIVATIONS)}")
    for parameter, value in given.items():
        if parameter not in PARAMETERS[name]:
            takes = ", ".join(PARAMETERS[name]) or "no parameter"
            raise UserError(f"{key}.{parameter}={value}: {name} takes {takes}; leave it out")
    try:
        return ACTIVATIONS[name](**given)
    except UserError as error:
        raise UserError(f"{key}.{error} ({name})") from None


def activation_label(activation: Activation) -> str:
    """How tables and figures name it: ``smelu(beta=0.5)``."""
    name, given = _split(activation)
    inside = ", ".join(f"{parameter}={value:g}" for parameter, value in given.items())
    return f"{name}({inside})" if inside else name


def initialisation_gain(activation: Activation) -> float:
    """By what weights are multiplied so that a layer passes on the size of its input.

    1/√E[f(z)²] for standard normal z, which for ReLU is √2 (He et al. 2015, section 2.2).
    """
    name, given = _split(activation)
    return _gain(name, tuple(sorted(given.items())))


@functools.cache
def _gain(name: str, given: tuple[tuple[str, float], ...]) -> float:
    if name == "relu":
        return math.sqrt(2)
    z: Float[np.ndarray, " N"] = np.linspace(-12, 12, 240_001)
    density = np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    with torch.no_grad():
        values = make_activation({"name": name, **dict(given)})(torch.from_numpy(z)).numpy()
    return float(1 / math.sqrt(np.trapezoid(values * values * density, z)))


def _split(activation: Activation) -> tuple[str, dict[str, Any]]:
    if isinstance(activation, str):
        return activation, {}
    return activation["name"], {key: value for key, value in activation.items() if key != "name"}


class _Joined(torch.autograd.Function):
    """``GSmeLU`` in few passes over memory, which is what an activation costs on a CPU.

    Beside the value comes the slope, kept for backward.
    """

    @staticmethod
    def forward(
        x: Tensor, low: float, high: float, alpha: float, beta: float, offset: float
    ) -> tuple[Tensor, Tensor]:
        width = alpha + beta
        rise = torch.sub(x, beta).relu_()
        if width > 0:
            share = torch.add(x, alpha).mul_(1 / width).clamp_(0.0, 1.0)
            rise.addcmul_(share, share, value=width / 2)
        else:
            share = (x > 0).to(x.dtype)
        if (low, high) == (0.0, 1.0) and offset == 0:
            return rise, share
        line = torch.add(x, alpha).mul_(low).add_(offset)
        return line.add_(rise, alpha=high - low), share.mul_(high - low).add_(low)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: tuple[Tensor, Tensor]) -> None:
        x, *ctx.parameters = inputs
        ctx.save_for_backward(x, output[1])
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        gradient = gradients[0]
        if gradient is None:
            return (None,) * 6
        x, slope = ctx.saved_tensors
        if torch.is_grad_enabled():
            # For second derivatives it has to be a function of x.
            low, high, alpha, beta, _ = ctx.parameters
            width = alpha + beta
            share = torch.clamp((x + alpha) / width, 0.0, 1.0) if width > 0 else (x > 0).to(x.dtype)
            slope = low + (high - low) * share
        return gradient * slope, None, None, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, *parameters: float) -> Any:
        """Elementwise: the mapped axis is one among others."""
        joined = _Joined.apply(x, *parameters)  # type: ignore[no-untyped-call]
        return joined, (in_dims[0], in_dims[0])


def _require_at_least_0(name: str, value: float) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise UserError(f"{name}={value} must be at least 0")


def _above_0(name: str, value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise UserError(f"{name}={value} must be above 0")
    return float(value)


def _finite(name: str, value: float) -> float:
    if not math.isfinite(value):
        raise UserError(f"{name}={value} must be a finite number")
    return float(value)
