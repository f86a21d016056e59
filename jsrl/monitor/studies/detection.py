"""A study of detection: every fault on a policy, each with a record of who notices it."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.core.files import read_json_record, write_whole
from jsrl.core.specs import EnvSpec
from jsrl.core.streams import Streams
from jsrl.envs.make import EnvSettings, make_env
from jsrl.loggers import Progress
from jsrl.monitor.capture.layers import INPUTS, OUTPUTS, LayerCapture
from jsrl.monitor.capture.roll_out import roll_out
from jsrl.monitor.capture.samples import Sample
from jsrl.monitor.capture.steps import WatchedSteps
from jsrl.monitor.studies.faults import DYNAMICS, Fault, scale_dynamics, with_fault
from jsrl.monitor.studies.power import (
    FaultSetting,
    PowerSettings,
    as_record,
    fault_settings,
    p_values_of_windows,
    time_to_detection,
)
from jsrl.monitor.studies.power_records import CLEAN
from jsrl.networks.deployment import DeployedPolicy

KEYS = {"kind", "columns", "strength", "label", "p_values", "settings"}
"""What the record of a fault holds at least."""


@dataclass(frozen=True)
class StudySettings:
    """What is tried, as every record of it says.

    Args:
        seed: whose policy it is.
        column: column of the observation that fails.
        other: column that it is swapped with.
        interval: steps from one that is watched to the next.
        clean: episodes without a fault, in each roll-out.
        episodes: episodes with each fault at each strength.
        layers: a regular expression of the layers that are watched.
        which: which policy of the run is watched: ``exploration``, or ``guide``.
    """

    seed: int
    column: int
    other: int
    interval: int
    clean: int
    episodes: int
    layers: str
    which: str


class DetectionStudy:
    """A policy, its clean episodes, and the faults that are tried on it.

    Args:
        policy: S = 1.
        env: the environment that it acts in.
        spec: its spaces.
        settings: what is tried.
        power: how much is tested of each fault.
        output: the folder of the records, in ``raw``.
        num_envs: environments that run at a time.
        versions: of the packages that results depend on, by name.

    Raises:
        UserError: if a column or layer is not there, or there are too few episodes.
    """

    def __init__(
        self,
        policy: DeployedPolicy,
        env: EnvSettings,
        spec: EnvSpec,
        settings: StudySettings,
        power: PowerSettings,
        output: Path,
        num_envs: int,
        versions: Mapping[str, str],
    ) -> None:
        self._policy = policy
        self._capture = LayerCapture(policy, settings.layers)
        self._env = env
        self._spec = spec
        self._settings = settings
        self._power = power
        self._output = output
        self._num_envs = num_envs
        self._versions = versions
        size = policy.observation_size
        for name, column in (("column", settings.column), ("other", settings.other)):
            if not 0 <= column < size:
                raise UserError(f"{name}={column}: the observation has columns 0 to {size - 1}")
        needed = power.reference + power.window
        if settings.clean < needed or settings.episodes < power.window:
            raise UserError(
                f"clean={settings.clean} must be at least {needed} and episodes="
                f"{settings.episodes} at least {power.window}"
            )

    def complete(self) -> None:
        """Try whatever has no record yet, and write a record of each fault."""
        started = time.monotonic()
        clean = self._episodes("clean", self._settings.clean, None)
        faults = self._faults(clean)
        progress = Progress(len(faults) + 1, "faults tried")
        none = FaultSetting(CLEAN, (), 0.0, "0")
        if not self._is_there(none):
            found, waited, rollouts = self._without_fault(clean)
            self._write(none, found, waited, started, rollouts)
        progress.update(1)
        for number, setting in enumerate(faults, start=2):
            if not self._is_there(setting):
                self._try(setting, clean)
            progress.update(number)
        progress.close()

    def _faults(self, clean: Sequence[Sample]) -> list[FaultSetting]:
        """Every fault at its strengths, in units of what the columns do in clean episodes."""
        observations = np.concatenate([sample.steps.observations for sample in clean])
        return fault_settings(
            observations.mean(0).tolist(),
            observations.std(0).tolist(),
            self._settings.column,
            self._settings.other,
            self._possible_dynamics(),
        )

    def _try(self, setting: FaultSetting, clean: list[Sample]) -> None:
        """Write the record of a fault."""
        started = time.monotonic()
        fault = Fault(setting.kind, setting.columns, setting.strength)
        episodes = self._episodes(setting.name, self._settings.episodes, fault)
        found = p_values_of_windows(clean, episodes, self._power, self._deepest())
        waited = time_to_detection(clean, episodes, self._power)
        self._write(setting, found, waited, started)

    def _without_fault(
        self, first: list[Sample]
    ) -> tuple[list[dict[str, float]], list[int | None], list[int]]:
        """Windows and sequences of independent roll-outs, each against its own reference.

        Returns:
            The p-values of each window, the times to an alarm, and the roll-out of each window.
            Roll-outs may have different numbers of windows, since an episode that was over before
            a step of it was watched does not count.
        """
        found: list[dict[str, float]] = []
        waited: list[int | None] = []
        rollouts: list[int] = []
        for number in range(self._power.rollouts):
            clean = first
            if number > 0:
                clean = self._episodes(f"clean {number}", self._settings.clean, None)
            fresh = clean[self._power.reference :]
            found += p_values_of_windows(clean, fresh, self._power, self._deepest())
            rollouts += [number] * (len(found) - len(rollouts))
            waited += time_to_detection(clean, fresh, replace(self._power, sequences=1))
        return found, waited, rollouts

    def _possible_dynamics(self) -> list[str]:
        """The changes of dynamics that are possible in this environment."""
        found = []
        for kind in DYNAMICS:
            env = make_env(self._env)
            try:
                scale_dynamics(env, kind, 1.0)
                found.append(kind)
            except UserError:
                continue
            finally:
                env.close()
        return found

    def _episodes(self, name: str, count: int, fault: Fault | None) -> list[Sample]:
        watched: list[Sample] = []

        def sink(_: int, steps: WatchedSteps, layers: dict[str, Tensor]) -> None:
            watched.append(Sample(steps, layers))

        streams = Streams([self._settings.seed], ("detection", name))
        roll_out(
            *(self._env, self._spec, self._policy, self._capture, streams),
            *(count, self._num_envs, sink),
            interval=self._settings.interval,
            wrap=None if fault is None else partial(with_fault, fault=fault),
        )
        whole = Sample.concatenate(watched)
        # In the order in which they began: those that end last are the long ones.
        numbers = np.unique(whole.steps.episode)
        return [whole.take(np.flatnonzero(whole.steps.episode == number)) for number in numbers]

    def _deepest(self) -> str:
        """The last layer before the output, or the last one that is watched."""
        inner = [n for n in self._capture.layers if n not in (INPUTS, OUTPUTS)]
        return inner[-1] if inner else self._capture.layers[-1]

    def _path(self, setting: FaultSetting) -> Path:
        return self._output / "raw" / f"{setting.name}.json"

    def _is_there(self, setting: FaultSetting) -> bool:
        path = self._path(setting)
        if not path.exists():
            return False
        record = read_json_record(path, KEYS, "the record of a fault", "it tried again")
        if record["settings"] != self._all_settings():
            raise UserError(
                f"{path} is of other settings ({record['settings']}); use the same, or another "
                "output"
            )
        return True

    def _write(
        self,
        setting: FaultSetting,
        found: list[dict[str, float]],
        waited: list[int | None],
        started: float,
        rollouts: list[int] | None = None,
    ) -> None:
        record: dict[str, Any] = as_record(
            setting,
            found,
            layers=self._capture.layers,
            time_to_detection=waited,
            rollouts=rollouts,
            settings=self._all_settings(),
            environment=self._env.id,
            versions=self._versions,
            wall_seconds=time.monotonic() - started,
        )
        write_whole(self._path(setting), (json.dumps(record, indent=1) + "\n").encode())

    def _all_settings(self) -> dict[str, Any]:
        """The settings that records must share."""
        return asdict(self._settings) | asdict(self._power)
