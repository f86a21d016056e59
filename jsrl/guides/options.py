"""What all guides share in the configuration: their options, their registry, what they get."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from jaxtyping import Int64

from jsrl.core.protocols import Guide
from jsrl.core.ranges import all_finite, required
from jsrl.core.registry import KindOptions, Registry
from jsrl.core.specs import EnvSpec
from jsrl.core.transitions import TransitionData
from jsrl.envs.make import EnvSettings
from jsrl.guides.view import GuideView


@dataclass
class GuideOptions(KindOptions):
    """What every guide has."""

    pretrained = False
    """Whether the run trains it first, from offline data."""
    has_networks = False
    """Whether a learner can begin from its networks."""
    takes_over: ClassVar[bool] = False
    """Whether it can ask to act and give back by itself."""
    is_several: ClassVar[bool] = False
    """Whether one of several guides acts, so that transitions say which."""

    def parts(self) -> Sequence["GuideOptions"]:
        """The options of the guides that it is made of: itself, or those of its members."""
        return (self,)

    def asks_person(self) -> bool:
        """Whether a person acts, who sees one environment and acts in no other."""
        return False

    def is_measured(self) -> bool:
        """Whether it acts in evaluations too: alone, before exploration, and combined."""
        return True

    def view(self) -> GuideView:
        """How the guide sees the environment: as it is, unless its kind has options for that."""
        return GuideView()

    def check(self) -> None:
        """Raise UserError for the first value that is out of range."""
        all_finite("guide", self)


@dataclass
class ViewOptions(GuideOptions):
    """Of guides that may see the environment in their own way."""

    # Names of parts of a dictionary observation, or column numbers; null is all of it.
    observation: list[Any] | None = None
    # Subtracted from the guide's observations; null: 0.
    mean: list[float] | None = None
    # By which they are divided; null: 1.
    std: list[float] | None = None
    # The range in which the guide itself answers, one number or one for each action. Null is what
    # its kind knows: python, torchscript, torch_export, onnx, d3rlpy and robomimic answer in the
    # environment's own bounds, unless a Python object says otherwise; sb3 in those that it was
    # trained with; run, offline and npz in [-1, 1].
    action_low: Any = None
    # The upper end of that range.
    action_high: Any = None

    def view(self) -> GuideView:
        return GuideView(
            observation=None if self.observation is None else tuple(self.observation),
            mean=self.mean,
            std=self.std,
            action_low=self.action_low,
            action_high=self.action_high,
        )


@dataclass
class FileOptions(ViewOptions):
    """Of guides from a file."""

    # The file, or the run directory, that the guide is in.
    path: str | None = None

    WANTED = "a file"

    def check(self) -> None:
        super().check()
        required("guide.path", self.path, f"guide={self.kind}", self.WANTED)


class Demonstrations(Protocol):
    """Transitions that were recorded, as ``jsrl.datasets`` reads them: actions in [-1, 1]."""

    @property
    def data(self) -> TransitionData: ...

    @property
    def source(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def episode_starts(self) -> Int64[np.ndarray, " K"]: ...

    def notices(self) -> Sequence[str]:
        """What was converted, and what looks wrong, one line each."""
        ...


class ReadDemonstrations(Protocol):
    """Reads what a path or name stands for."""

    def __call__(
        self, path: str, spec: EnvSpec, key: str, reading: dict[str, Any]
    ) -> Demonstrations:
        """The demonstrations, checked against the environment.

        Args:
            path: a file, a D4RL name or a Minari id.
            spec: of the environment.
            key: under which the user gave the path, for messages.
            reading: how they are to be read, by the names of ``jsrl.datasets.reading.Reading``.
        """
        ...


@dataclass(frozen=True)
class GuideInputs:
    """What every guide is made from, beside its options.

    Args:
        spec: of the environment that it acts in.
        seeds: of the run, one guide each or one for all.
        device: where networks act.
        env: from which an environment can be made, for guides that read its maze or its model.
        read: reads demonstrations, for guides that act from such.
    """

    spec: EnvSpec
    seeds: list[int]
    device: torch.device
    env: EnvSettings
    read: ReadDemonstrations | None = None


class MakeGuide(Protocol):
    """Makes a guide; None for the kinds that have none before the run begins."""

    def __call__(self, options: Any, inputs: GuideInputs) -> Guide | None: ...


guides: Registry[MakeGuide] = Registry("guide", GuideOptions)
"""The kinds of ``guide=…``."""
