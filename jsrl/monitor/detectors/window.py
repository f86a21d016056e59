"""What detectors are given: some samples of a network, with as much as is known of each.

Whoever captures fills in what there is. A detector that lacks what it needs says so by name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.monitor.capture.layers import INPUTS, OUTPUTS
from jsrl.monitor.capture.samples import Sample, evenly_spread
from jsrl.monitor.capture.steps import ACTORS

LOGITS, ACTIONS = "logits", "actions"
OUTPUT_KINDS = (ACTIONS, LOGITS)
"""What the outputs of a network are: actions of a Box, or the logits of classes."""


@dataclass(frozen=True)
class Window:
    """N samples in B episodes; a request that stands alone is an episode of one sample.

    Args:
        episode: the number of each sample's episode. Samples of an episode follow each other.
        layers: activations by name, in the order of the network: ``[N, D]``, or maps
            ``[N, C, H, W]``. ``inputs`` and ``outputs`` are what goes in and what comes out.
        observations: what was observed.
        actions: what was done, where actions are vectors.
        logits: of the K classes or discrete actions, before any softmax.
        labels: the true classes, where they are known.
        values: of the same state and action by C critics.
        actor: who acted, an index into ``jsrl.monitor.capture.steps.ACTORS``; None: always the
            same.
        time: the steps since the episode began; None: at any time.

    Raises:
        UserError: if a part has another number of samples than ``episode``.
    """

    episode: Int[Tensor, " N"]
    layers: Mapping[str, Tensor] = field(default_factory=dict)
    observations: Float[Tensor, "N O"] | None = None
    actions: Float[Tensor, "N A"] | None = None
    logits: Float[Tensor, "N K"] | None = None
    labels: Int[Tensor, " N"] | None = None
    values: Float[Tensor, "N C"] | None = None
    actor: Int[Tensor, " N"] | None = None
    time: Int[Tensor, " N"] | None = None

    def __post_init__(self) -> None:
        for name, part in self._named_parts():
            if len(part) != len(self.episode):
                raise UserError(
                    f"{name} has {len(part)} samples and episode {len(self.episode)}; give every "
                    "sample in each"
                )

    @classmethod
    def of(cls, sample: Sample, outputs: str = ACTIONS) -> "Window":
        """What a sample holds; ``outputs`` says what the network's last layer gives.

        Raises:
            UserError: if the outputs are to be logits, but were not captured.
        """
        logits = None
        if outputs == LOGITS:
            logits = sample.activations.get(OUTPUTS)
            if logits is None:
                raise UserError(
                    f"the outputs are to be logits, but no layer {OUTPUTS} was captured; it has "
                    f"{', '.join(sample.activations)}: let monitor.layers match {OUTPUTS} too"
                )
        steps = sample.steps
        return cls(
            episode=torch.from_numpy(steps.episode),
            layers=sample.activations,
            observations=torch.from_numpy(steps.observations),
            actions=torch.from_numpy(steps.actions) if logits is None else None,
            logits=logits,
            actor=torch.from_numpy(steps.actor),
            time=torch.from_numpy(steps.time),
        )

    def __len__(self) -> int:
        return len(self.episode)

    @property
    def classes(self) -> Int[Tensor, " N"] | None:
        """The class or discrete action that the network chose for each sample."""
        return None if self.logits is None else self.logits.argmax(1).cpu()

    @property
    def answers(self) -> Float[Tensor, "N A"] | None:
        """What the network itself answers to each sample, not as classes; None if it is not known.

        It is the last layer, where that was captured, since the actions that were done may be a
        guide's, or those of the network before it learnt more.
        """
        outputs = self.layers.get(OUTPUTS)
        known = self.actions if outputs is None or outputs.ndim != 2 else outputs
        return None if known is None or known.shape[1] == 0 else known.float().cpu()

    @property
    def inner_layers(self) -> tuple[str, ...]:
        """The layers between what goes in and what comes out."""
        return tuple(name for name in self.layers if name not in (INPUTS, OUTPUTS))

    def take(self, which: NDArray[np.int64]) -> "Window":
        """The samples at these places."""
        where = torch.from_numpy(which)
        parts = {n: p[where.to(p.device)] for n, p in self._parts().items()}
        layers = {n: v[where.to(v.device)] for n, v in self.layers.items()}
        return replace(self, layers=layers, **parts)

    def thinned(self, most: int) -> "Window":
        """At most ``most`` samples of each episode, evenly spread over it."""
        numbers = self.episode.numpy()
        episodes, counts = np.unique(numbers, return_counts=True)
        if len(counts) == 0 or counts.max() <= most:
            return self
        kept = []
        for episode in episodes:
            own = np.flatnonzero(numbers == episode)
            kept.append(own[evenly_spread(len(own), most)] if len(own) > most else own)
        return self.take(np.sort(np.concatenate(kept)))

    def is_finite(self) -> bool:
        """Whether every number is finite."""
        return all(bool(part.isfinite().all()) for _, part in self._named_parts())

    def _parts(self) -> dict[str, Tensor]:
        """All that is there but the layers."""
        found = {name: value for name, value in vars(self).items() if name != "layers"}
        return {name: value for name, value in found.items() if value is not None}

    def _named_parts(self) -> list[tuple[str, Tensor]]:
        layers = [(f"layer {name}", values) for name, values in self.layers.items()]
        return [*self._parts().items(), *layers]


def as_window(side: Sample | Window, outputs: str) -> Window:
    """A window, whichever of both it is."""
    return side if isinstance(side, Window) else Window.of(side, outputs)


def pooled(first: Window, second: Window, layers: Mapping[str, Tensor]) -> Window:
    """Both windows in one with the given layers, and what both of them know beside.

    Raises:
        UserError: if a part has another size on one side than on the other.
    """
    parts = {}
    for name in sorted(first._parts().keys() & second._parts().keys()):
        one, other = first._parts()[name], second._parts()[name]
        if one.shape[1:] != other.shape[1:]:
            raise UserError(
                f"{name} have {tuple(one.shape[1:])} numbers for each sample of the reference and "
                f"{tuple(other.shape[1:])} of what is tested; both have to be of one network"
            )
        parts[name] = torch.cat([one, other.to(one.device)])
    return Window(layers=layers, **parts)


def names_of_actors(window: Window) -> dict[int, str]:
    """For each actor in the window its name."""
    if window.actor is None:
        return {0: ACTORS[1]}
    return {int(actor): ACTORS[int(actor)] for actor in window.actor.unique()}
