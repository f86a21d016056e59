"""Captures the activations of a network's layers while it acts.

A hook that stays costs time at every pass, in the learner's updates too, and makes compiled ones
recompile. So a recorder is attached around a single pass and removed after it (see
``forward_passes``); it copies tensors and changes nothing. ``jsrl benchmark`` measures its cost.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.protocols import EncodesObservations, SeesImages
from jsrl.monitor.capture.forward_passes import (
    Attachment,
    ForwardHooks,
    ForwardWrapper,
    PassRecorder,
)

INPUTS, OUTPUTS = "inputs", "outputs"
"""The names of what goes into the whole network and what comes out of it. A layer that has such a
name cannot be captured."""

CONTAINERS = (nn.ModuleDict, nn.ModuleList, nn.ParameterDict, nn.ParameterList)
"""Modules that hold others and are not called themselves."""


CONVOLUTIONS = "convolutions"
"""What the names of an encoder's convolutions contain."""


class LayerCapture:
    """The layers of a network whose names match a pattern.

    Args:
        module: the network.
        pattern: a regular expression that the whole name of a layer has to match. The names are
            those of ``module.named_modules()``, and ``inputs`` and ``outputs`` of the network.

    Raises:
        UserError: if the pattern is no regular expression, no layer matches it, or the network is
            a TorchScript module.
    """

    def __init__(self, module: nn.Module, pattern: str) -> None:
        self.module = module
        self._pattern = pattern
        self.layers = matching_layers(module, pattern)
        self.device = next((p.device for p in module.parameters()), torch.device("cpu"))
        inner = [n for n in self.layers if n not in (INPUTS, OUTPUTS)]
        modules = [(name, module.get_submodule(name)) for name in inner]
        self._outputs = {id(part): name for name, part in modules}
        self._inputs = (id(module), INPUTS) if INPUTS in self.layers else None
        captured = [part for _, part in modules]
        if OUTPUTS in self.layers:
            self._outputs[id(module)] = OUTPUTS
        if len(inner) < len(self.layers):
            captured.append(module)
        self._fused = any(isinstance(m, nn.TransformerEncoderLayer) for m in module.modules())
        self._attachments = [(part, ForwardWrapper(part), ForwardHooks(part)) for part in captured]

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy, or what was pickled, finds the layers anew in its own copy of the network."""
        return LayerCapture, (self.module, self._pattern)

    def recorder(self, into: dict[str, Tensor]) -> PassRecorder:
        """A context that fills ``into`` with each layer's activations ``[*batch, D]``.

        Of a layer that is used several times the last activations remain. Passes of other threads
        through the same network are not recorded.

        Raises:
            UserError: at the end, if a layer answered something else than a tensor.
        """
        return self._recorder(into, raises=True)

    def recorder_that_never_raises(self) -> PassRecorder:
        """A recorder with an ``into`` of its own, which keeps an error as its ``fault``."""
        return self._recorder({}, raises=False)

    def _recorder(self, into: dict[str, Tensor], raises: bool) -> PassRecorder:
        attachments: list[Attachment] = [
            hooks if self._fused or m._forward_hooks or m._forward_pre_hooks else wrapper
            for m, wrapper, hooks in self._attachments
        ]
        return PassRecorder(attachments, self._outputs, self._inputs, _copied, into, raises)

    def observe(self, observation: Observation) -> dict[str, Tensor]:
        """Activations of every layer of a policy for stored observations ``[S, B]``.

        Raises:
            UserError: if a layer was not called, the policy sees images and there are none, or it
                has recurrent layers.
        """
        observation, module = observation.to(self.device), self.module
        if isinstance(module, SeesImages) and module.images and not observation.images:
            raise UserError(
                "the policy sees images, and recordings hold none, so that its layers cannot be "
                "asked again; watch it as it trains by monitor=on"
            )
        if has_memory(module):
            raise UserError(
                "the policy has recurrent layers, which say something else of stored steps than "
                "they said of the sequence; watch it as it acts by jsrl.Monitor.wrap, which keeps "
                "what they said"
            )

        def act() -> object:
            encoder: object = module
            if isinstance(encoder, EncodesObservations):
                return module(encoder.encode(observation))
            return module(observation.vector)

        return self._watched(act)

    def forward(self, observations: Tensor) -> dict[str, Tensor]:
        """Activations ``[*batch, D]`` of every layer for stored inputs of the module.

        Raises:
            UserError: if a layer was not called.
        """
        return self._watched(lambda: self.module(observations))

    @torch.no_grad()
    def _watched(self, call: Callable[[], object]) -> dict[str, Tensor]:
        """Activations of every layer in a call.

        Raises:
            UserError: if a layer was not called.
        """
        found: dict[str, Tensor] = {}
        # Evaluating: a pass that is only watched must not move statistics or draw masks.
        modes = [(module, module.training) for module in self.module.modules()]
        self.module.eval()
        try:
            with self.recorder(found):
                call()
        finally:
            for module, mode in modes:
                module.training = mode
        self.require_all(found)
        return found

    def require_all(self, found: Collection[str]) -> None:
        """Refuse activations in which a layer is missing.

        Raises:
            UserError: if a layer is missing.
        """
        silent = [name for name in self.layers if name not in found]
        if silent:
            raise UserError(
                f"layers {', '.join(silent)} said nothing while the policy acted: this network "
                "does not call them, or does their work elsewhere, as attention does with its "
                "projections; name other layers by monitor.layers, of "
                f"{', '.join(layer_names(self.module))}"
            )


def layer_names(module: nn.Module) -> list[str]:
    """``inputs``, the name of every module that contains no other one, and ``outputs``.

    A TorchScript module and what is inside it are left out, since nothing can be attached to them.
    """
    leaves = [
        name
        for name, part in module.named_modules()
        # A list or dictionary of no modules is nothing that could be called.
        if name
        and not isinstance(part, (*CONTAINERS, torch.jit.ScriptModule))
        and not any(True for _ in part.children())
    ]
    return [INPUTS, *(name for name in leaves if name not in (INPUTS, OUTPUTS)), OUTPUTS]


def has_memory(module: nn.Module) -> bool:
    """Whether a network holds a recurrent layer of PyTorch's.

    Stored steps that pass through such a network as one batch give other activations than they gave
    one after another.
    """
    return any(isinstance(m, (nn.RNNBase, nn.RNNCellBase)) for m in module.modules())


def matching_layers(module: nn.Module, pattern: str) -> list[str]:
    """The names of a network's layers that match a pattern, in the order of the network.

    The convolutions of an encoder of this package give thousands of numbers each: they match only
    a pattern in which the word stands.

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
    if isinstance(module, EncodesObservations) and CONVOLUTIONS not in pattern:
        names = [name for name in names if CONVOLUTIONS not in name]
    found = [name for name in names if compiled.fullmatch(name)]
    if not found:
        raise UserError(
            f"monitor.layers={pattern!r} matches no layer of the policy; it has {', '.join(names)}"
        )
    return found


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
    """The first tensor in a value, however deeply it is nested; None where there is none.

    It is looked for in tuples, lists, dictionaries and dataclasses, each in its own order. Of a
    distribution it is the mean, and a NumPy array of numbers counts as a tensor.
    """
    if isinstance(value, Tensor):
        return value
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(value)) if value.dtype.kind in "fiub" else None
    if isinstance(value, torch.distributions.Distribution):
        return value.mean
    parts: Iterable[Any] = ()
    if isinstance(value, Mapping):
        parts = value.values()
    elif isinstance(value, (tuple, list)):
        parts = value
    elif is_dataclass(value) and not isinstance(value, type):
        parts = (getattr(value, part.name) for part in fields(value))
    found = (first_tensor(part) for part in parts)
    return next((tensor for tensor in found if tensor is not None), None)
