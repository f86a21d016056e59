"""Policies that checkpoints keep: what their classes share, and the names they are registered by.

A policy class of a user's own extends ``SeedPolicy`` and is registered in its own file::

    @register_policy("my_policy")
    class MyPolicy(SeedPolicy):
        def __init__(self, num_seeds, observation_size, action_size, hidden=(64, 64)):
            super().__init__(num_seeds, observation_size, action_size, hidden=hidden)
            ...

A checkpoint then holds the name, where the class is found, and the arguments. A package that is
installed may name its module by an entry point of the group ``jsrl.policies``; its classes are then
found by their names alone, wherever they stand in it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, TypeVar

import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor, nn

from jsrl.core.errors import UserError
from jsrl.core.installed import installed_modules
from jsrl.core.loading import target_of
from jsrl.core.observations import Observation
from jsrl.core.streams import Streams

PACKAGE = "jsrl."
"""What the modules of this package begin with: their classes are found by name alone."""

ENTRY_POINTS = "jsrl.policies"
"""Classes of installed packages that have an entry point of this group are, too."""

C = TypeVar("C", bound=type[nn.Module])

_registered: dict[str, type[nn.Module]] = {}


def register_policy(name: str) -> Callable[[C], C]:
    """Decorate a policy class, so that checkpoints keep its policies under ``name``.

    The class is a ``torch.nn.Module`` with what ``jsrl.core.protocols.SavablePolicy`` asks for.

    Args:
        name: of the class in checkpoints. A class that comes from the same place as the one that
            has the name takes its place, since a file that was changed may be imported again.

    Raises:
        UserError: if another class has the name.
    """

    def decorate(cls: C) -> C:
        before = _registered.get(name)
        if before is not None and place_of(before) != place_of(cls):
            raise UserError(
                f"the policy class {cls.__qualname__} is registered as {name!r}, which is the name "
                f"of {before.__module__}.{before.__qualname__}; give it another name"
            )
        _registered[name] = cls
        return cls

    return decorate


def registered_class(name: str) -> type[nn.Module] | None:
    """The class of this name, if there is one so far."""
    return _registered.get(name)


def registered_names() -> tuple[str, ...]:
    """The names of all classes that are registered so far."""
    return tuple(_registered)


def registered_name(cls: type) -> str | None:
    """The name of this very class; None if it is not registered, even if its base is."""
    return next((name for name, known in _registered.items() if known is cls), None)


def where_found(cls: type) -> str | None:
    """``module:attribute`` or ``file.py:attribute`` of a class.

    None for one of this package's, or of an installed package's entry point ``jsrl.policies``:
    these are found by their names.

    Raises:
        UserError: if no other program could find it.
    """
    by_name = cls.__module__.startswith(PACKAGE)
    by_name = by_name or cls.__module__ in installed_modules(ENTRY_POINTS)
    return None if by_name else target_of(cls)


def place_of(cls: type) -> str:
    """Where a class was defined, for comparison: also of one that no other program can find."""
    try:
        return where_found(cls) or f"{cls.__module__}:{cls.__qualname__}"
    # Of a class that no other program can find, which checkpoints do not keep.
    except UserError:
        return f"{cls.__module__}:{cls.__qualname__}"


class SeedPolicy(nn.Module):
    """A policy of S seeds whose parameters have a leading seed axis.

    Its buffers are shared, but for those that ``seed_buffers`` names.

    A class that extends it defines ``mode``, ``act``, and ``forward`` where the monitor is to look
    into its layers.

    Args:
        num_seeds: S.
        observation_size: O, of the vector.
        action_size: A, or the number of choices.
        arguments: the other keywords with which the class was called, as plain values: numbers,
            strings, lists and dictionaries. A class that sees images has the keyword ``images``,
            with channels, height and width of each by name.
    """

    seed_buffers: frozenset[str] = frozenset()
    """The names of its own buffers that have a leading seed axis, too."""

    def __init__(
        self, num_seeds: int, observation_size: int, action_size: int, **arguments: Any
    ) -> None:
        super().__init__()
        self.num_seeds = num_seeds
        self.observation_size = observation_size
        self.action_size = action_size
        shapes: Mapping[str, Sequence[int]] = arguments.get("images") or {}
        self.images: dict[str, tuple[int, ...]] = {n: tuple(s) for n, s in shapes.items()}
        self.arguments: dict[str, Any] = {
            "num_seeds": num_seeds,
            "observation_size": observation_size,
            "action_size": action_size,
            **{name: _plain(value) for name, value in arguments.items()},
        }

    def describe(self) -> dict[str, Any]:
        """What makes this policy again, without its weights: see ``SavablePolicy``."""
        names = (registered_name(cls) for cls in type(self).__mro__)
        name = next((name for name in names if name is not None), type(self).__qualname__)
        return {"class": name, "arguments": self.arguments}

    def select(self, index: int | Sequence[int]) -> Self:
        """A frozen copy for one seed alone (S = 1), or for the seeds at these indices in order."""
        rows = [index] if isinstance(index, int) else list(index)
        by_seed = names_by_seed(self)
        state = {
            name: value[rows] if name in by_seed else value
            for name, value in self.state_dict().items()
        }
        chosen = type(self)(**{**self.arguments, "num_seeds": len(rows)})
        chosen.load_state_dict(state)
        device = next((value.device for value in state.values()), torch.device("cpu"))
        return chosen.to(device).requires_grad_(False)

    def mode(self, obs: Observation) -> Shaped[Tensor, "S B *A"]:
        """The action without noise: in [-1, 1], or a choice from 0 to n - 1."""
        raise NotImplementedError(f"{type(self).__qualname__} defines no mode(obs)")

    def act(self, obs: Observation, streams: Streams | None) -> Shaped[Tensor, "S E *A"]:
        """Actions for training, or the mode without ``streams``."""
        raise NotImplementedError(f"{type(self).__qualname__} defines no act(obs, streams)")

    def mode_module(self, index: int) -> nn.Module:
        """The mode of one seed, for an exported file: see ``ExportablePolicy``."""
        return ModeOfOneSeed(self.select(index).cpu()).eval()


def names_by_seed(module: nn.Module) -> set[str]:
    """The names in a module's state of what has a leading seed axis.

    These are its parameters, and what ``seed_buffers`` of the policies in it names.
    """
    names = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    for place, part in module.named_modules():
        if isinstance(part, SeedPolicy):
            names |= {f"{place}.{name}" if place else name for name in part.seed_buffers}
    return names


class ModeOfOneSeed(nn.Module):
    """A policy of one seed, called with rows ``[n, O]`` in place of ``[1, n, O]``.

    Images come behind the rows, each ``[n, C, H, W]``, in the order of the policy's ``images``.
    """

    def __init__(self, policy: SeedPolicy) -> None:
        super().__init__()
        self.policy = policy

    def forward(
        self, rows: Float[Tensor, "n O"], *images: UInt8[Tensor, "n _ _ _"]
    ) -> Shaped[Tensor, "n *A"]:
        named = {
            name: image.unsqueeze(0) for name, image in zip(self.policy.images, images, strict=True)
        }
        return self.policy.mode(Observation(rows.unsqueeze(0), named)).squeeze(0)


def _plain(value: Any) -> Any:
    """Sequences as lists and mappings as dictionaries, which a checkpoint can hold."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value
