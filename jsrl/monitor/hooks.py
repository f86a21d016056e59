"""What layers of a network say while it acts, seen by hooks that are there only when needed.

A hook that stays costs time at every pass, in the learner's updates too, and makes compiled ones
recompile. These are attached around a single pass and removed after it; they copy, and change
nothing. Where they can they stand in for a layer's ``forward``, since a module with hooks of
PyTorch's is called by a slower path (``jsrl benchmark`` measures what looking on costs). PyTorch's
are used on a module that has some already, which may change what it answers, and in networks with
fused layers, which work part by part only where a part has one.
"""

import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from jsrl.errors import UserError

INPUTS, OUTPUTS = "inputs", "outputs"
"""Names for what goes into the whole network and what comes out of it; a layer of such a name is
hidden by them."""


class Capture:
    """The layers of a network whose names match a pattern.

    Args:
        module: the network.
        pattern: a regular expression that the whole name has to match. Names are those of
            ``module.named_modules()``, and ``inputs`` and ``outputs`` of the network as a whole.

    Raises:
        UserError: if the pattern is none, or no layer matches, or hooks cannot be attached.
    """

    def __init__(self, module: nn.Module, pattern: str) -> None:
        self._module = module
        self.layers = matching_layers(module, pattern)
        self.device = next((p.device for p in module.parameters()), torch.device("cpu"))
        inner = [n for n in self.layers if n not in (INPUTS, OUTPUTS)]
        self._modules = [(name, module.get_submodule(name)) for name in inner]
        self._fused = any(isinstance(m, nn.TransformerEncoderLayer) for m in module.modules())

    @contextmanager
    def attached(self, into: dict[str, Tensor]) -> Iterator[None]:
        """Fill ``into`` with each layer's activations ``[*batch, D]`` while the block passes once.

        Of a layer that is used several times in a pass the last activations remain.
        """
        undo: list[Callable[[], None]] = []
        try:
            for name, module in self._modules:
                undo.append(self._keep_output(module, into, name))
            if INPUTS in self.layers:
                undo.append(self._keep_input(into))
            if OUTPUTS in self.layers:
                undo.append(self._keep_output(self._module, into, OUTPUTS))
            yield
        finally:
            for remove in reversed(undo):
                remove()

    def _keep_output(
        self, module: nn.Module, into: dict[str, Tensor], name: str
    ) -> Callable[[], None]:
        """From now on; what is returned removes it."""
        if self._needs_hooks(module):
            return module.register_forward_hook(
                lambda _, __, output: into.update({name: _copied(output, name)})
            ).remove
        own = module.forward

        def forward(*arguments: Any, **named: Any) -> Any:
            output = own(*arguments, **named)
            into[name] = _copied(output, name)
            return output

        return _stand_in(module, forward)

    def _keep_input(self, into: dict[str, Tensor]) -> Callable[[], None]:
        """Likewise."""

        def keep(arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
            into[INPUTS] = _copied(next(iter((*arguments, *named.values())), None), INPUTS)

        if self._needs_hooks(self._module):
            return self._module.register_forward_pre_hook(
                lambda _, arguments, named: keep(arguments, named), with_kwargs=True
            ).remove
        own = self._module.forward

        def forward(*arguments: Any, **named: Any) -> Any:
            keep(arguments, named)
            return own(*arguments, **named)

        return _stand_in(self._module, forward)

    def _needs_hooks(self, module: nn.Module) -> bool:
        return bool(self._fused or module._forward_hooks or module._forward_pre_hooks)

    @torch.no_grad()
    def forward(self, observations: Tensor) -> dict[str, Tensor]:
        """Activations ``[*batch, D]`` of every layer for stored observations ``[*batch, O]``.

        Raises:
            UserError: if a layer says nothing.
        """
        found: dict[str, Tensor] = {}
        # Evaluating: a pass that is only looked at must not move statistics or draw masks.
        modes = [(module, module.training) for module in self._module.modules()]
        self._module.eval()
        try:
            with self.attached(found):
                self._module(observations)
        finally:
            for module, mode in modes:
                module.training = mode
        self.require_all(found)
        return found

    def require_all(self, found: Collection[str]) -> None:
        """See that every layer said something.

        Raises:
            UserError: if not.
        """
        silent = [name for name in self.layers if name not in found]
        if silent:
            raise UserError(
                f"layers {', '.join(silent)} said nothing while the policy acted: this network "
                "does not call them, or does their work elsewhere, as attention does with its "
                "projections; name other layers by monitor.layers, of "
                f"{', '.join(layer_names(self._module))}"
            )


def layer_names(module: nn.Module) -> list[str]:
    """``inputs``, every layer without layers of its own in it, ``outputs``."""
    leaves = [n for n, m in module.named_modules() if n and not any(True for _ in m.children())]
    return [INPUTS, *(name for name in leaves if name not in (INPUTS, OUTPUTS)), OUTPUTS]


def matching_layers(module: nn.Module, pattern: str) -> list[str]:
    """The names of a network's layers that match, in the order of the network.

    Raises:
        UserError: if the pattern is no regular expression, or nothing matches.
    """
    if isinstance(module, torch.jit.ScriptModule):
        raise UserError(
            "the policy is a TorchScript module, into which hooks do not see; monitor the network "
            "that it was made from"
        )
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(f"monitor.layers={pattern!r} is no regular expression: {error}") from error
    names = layer_names(module)
    found = [name for name in names if compiled.fullmatch(name)]
    if not found:
        raise UserError(
            f"monitor.layers={pattern!r} matches no layer of the policy; it has {', '.join(names)}"
        )
    return found


def _stand_in(module: nn.Module, forward: Callable[..., Any]) -> Callable[[], None]:
    """Let a module be passed by ``forward``; what is returned puts back what it had before."""
    own = module.__dict__.get("forward")
    module.__dict__["forward"] = forward

    def put_back() -> None:
        if own is None:
            del module.__dict__["forward"]
        else:
            module.__dict__["forward"] = own

    return put_back


def _copied(value: Any, name: str) -> Tensor:
    """A copy of a layer's output, or of its first tensor: the next layer may work in place."""
    tensor = first_tensor(value)
    if tensor is None:
        raise UserError(
            f"layer {name} gave {type(value).__name__}; a tensor was expected: leave it out by "
            "monitor.layers"
        )
    if tensor.requires_grad:
        tensor = tensor.detach()
    # In float32, whatever the network computes in: what follows are statistics.
    return tensor.clone() if tensor.dtype is torch.float32 else tensor.to(torch.float32, copy=True)


def first_tensor(value: Any) -> Tensor | None:
    """The tensor, or the one that stands first where there are several, however nested."""
    while isinstance(value, (tuple, list)) and value:
        value = value[0]
    return value if isinstance(value, Tensor) else None
