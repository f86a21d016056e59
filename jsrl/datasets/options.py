"""What all kinds of offline data share in the configuration, and the registry of these kinds."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

from jsrl.core.ranges import all_finite, at_least, required
from jsrl.core.registry import KindOptions, Registry
from jsrl.core.specs import EnvSpec
from jsrl.datasets.dataset import Dataset
from jsrl.datasets.reading import Reading
from jsrl.envs.make import EnvSettings


@dataclass
class DatasetOptions(KindOptions):
    """What every kind of offline data has."""

    collects: ClassVar[bool] = False
    """Whether a run collects the data itself when it begins."""

    def check(self) -> None:
        """Raise UserError for the first value that is out of range."""
        all_finite("dataset", self)

    def check_source(self) -> None:
        """Raise UserError if a file that is to be read is not there, before anything takes time."""


@dataclass
class SubsetOptions(DatasetOptions):
    """Of data of which a part may be taken."""

    # Take the first so many of a shuffle of whole episodes; null: all.
    transitions: int | None = None
    # Of that shuffle, and of what is collected.
    seed: int = 0

    def check(self) -> None:
        super().check()
        at_least("dataset.seed", self.seed, 0)


@dataclass
class CollectedOptions(SubsetOptions):
    """Of data that a run collects itself when it begins."""

    # Transitions to collect.
    collected: int = 3000

    collects = True

    def check(self) -> None:
        super().check()
        at_least("dataset.collected", self.collected, 1)


@dataclass
class ReadOptions(SubsetOptions):
    """Of data that are read."""

    # A file, a D4RL name or a Minari id.
    path: str | None = None
    # Clip actions outside of their range instead of refusing the data.
    clip_actions: bool = False
    # The range in which the data keep actions, a number or one for each dimension, if it is neither
    # the environment's nor what the file says.
    action_low: Any = None
    # The upper end of that range.
    action_high: Any = None
    # End episodes where states jump implausibly, instead of a warning.
    split_at_jumps: bool | None = None

    WANTED = "a file"
    neutral = (("clip_actions", False), ("split_at_jumps", False))

    def check(self) -> None:
        super().check()
        required("dataset.path", self.path, f"dataset={self.kind}", self.WANTED)

    def reading(self, spec: EnvSpec) -> Reading:
        """How the data are to be read for an environment."""
        return Reading(
            spec=spec,
            action_low=self.action_low,
            action_high=self.action_high,
            clip_actions=self.clip_actions,
            split_at_jumps=bool(self.split_at_jumps),
        )


@dataclass
class FileOptions(ReadOptions):
    """Of data in a file, which may be in robomimic's layout: the contents tell."""

    # Of robomimic's layout: which observations, by name; null: those of the environment.
    observation: list[str] | None = None
    # The filter key of the demonstrations, such as train; null: all.
    mask: str | None = None

    def reading(self, spec: EnvSpec) -> Reading:
        chosen = None if self.observation is None else tuple(self.observation)
        return replace(super().reading(spec), observation=chosen, mask=self.mask)


@dataclass(frozen=True)
class DatasetInputs:
    """What every kind of data is made from, beside its options.

    Args:
        spec: of the environment that is trained in.
        env: from which environments to collect in can be made.
        collected: the file for data that are collected, and found again by a resumed run.
    """

    spec: EnvSpec
    env: EnvSettings
    collected: Path


class MakeDataset(Protocol):
    """Reads or collects data; None where there are none."""

    def __call__(self, options: Any, inputs: DatasetInputs) -> Dataset | None: ...


datasets: Registry[MakeDataset] = Registry("dataset", DatasetOptions)
"""The kinds of ``dataset=…``."""
