"""Activation functions by name, as named modules, so that hooks and export find them.

Bitwise independence of seeds asks of ``silu`` and ``softplus`` that hidden widths be multiples of
16: PyTorch rounds what does not fill a vector register differently.
"""

from torch import nn

from jsrl.errors import UserError

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
}


def make_activation(name: str) -> nn.Module:
    """A fresh activation module.

    Raises:
        UserError: if there is none of that name.
    """
    if name not in ACTIVATIONS:
        raise UserError(f"activation.name={name!r} is unknown; choose one of {sorted(ACTIVATIONS)}")
    return ACTIVATIONS[name]()
