"""Data that a run collects at its start: rollouts of the noisy waypoint controller in a maze."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from jsrl.core.ranges import at_least
from jsrl.core.specs import EnvSpec
from jsrl.datasets.d4rl import load_hdf5
from jsrl.datasets.dataset import Dataset
from jsrl.datasets.options import CollectedOptions, DatasetInputs, datasets
from jsrl.datasets.rollouts import collect_rollouts
from jsrl.envs.make import EnvSettings, make_env
from jsrl.guides.waypoint import waypoint_guide


@dataclass
class WaypointDataOptions(CollectedOptions):
    """Of ``dataset=waypoint``."""

    # Standard deviation of the Gaussian noise on the controller's actions.
    noise: float = 0.5
    # Of the controller: on the distance to the next point.
    proportional_gain: float = 3.0
    # Of the controller: on the velocity.
    derivative_gain: float = 0.5

    advice = "dataset=waypoint collects its own data"

    def check(self) -> None:
        super().check()
        at_least("dataset.noise", self.noise, 0)


@datasets.register("waypoint", WaypointDataOptions)
def make_waypoint_data(options: WaypointDataOptions, inputs: DatasetInputs) -> Dataset:
    """The data of the file, which is collected first if it is not there."""
    if not inputs.collected.exists():
        controller = {
            "noise": options.noise,
            "proportional_gain": options.proportional_gain,
            "derivative_gain": options.derivative_gain,
        }
        collect_with_waypoints(
            inputs.collected, inputs.env, inputs.spec, options.collected, options.seed, controller
        )
    return load_hdf5(inputs.collected, spec=inputs.spec)


def collect_with_waypoints(
    path: Path,
    env: EnvSettings,
    spec: EnvSpec,
    transitions: int,
    seed: int,
    controller: Mapping[str, float],
    report: Callable[[int], None] = lambda done: None,
) -> None:
    """Write ``transitions`` transitions of the noisy waypoint controller to ``path``."""
    example = make_env(env)
    guide = waypoint_guide(example, spec, 1, **controller)
    example.close()
    collect_rollouts(path, env, spec, guide, transitions, seed, controller, report)
