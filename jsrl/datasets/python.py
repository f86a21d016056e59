"""Data that a run collects at its start: rollouts of a user's own callable or class.

What may act is what ``guide=python`` takes. Loading it runs the code of its module.
"""

from dataclasses import dataclass, field
from typing import Any

from jsrl.core.ranges import required
from jsrl.datasets.d4rl import load_hdf5
from jsrl.datasets.dataset import Dataset
from jsrl.datasets.options import CollectedOptions, DatasetInputs, datasets
from jsrl.datasets.rollouts import collect_rollouts
from jsrl.guides.python import python_guide
from jsrl.guides.view import GuideView


@dataclass
class PythonDataOptions(CollectedOptions):
    """Of ``dataset=python``: rollouts of a callable or class of the user's own."""

    # What acts: module:attribute or file.py:attribute.
    target: str | None = None
    # Its keyword arguments, as dataset.arguments.NAME=VALUE.
    arguments: dict[str, Any] = field(default_factory=dict)

    advice = "what the behaviour policy is to be given goes into dataset.arguments.NAME=VALUE"

    def check(self) -> None:
        super().check()
        what = "module:attribute or file.py:attribute"
        required("dataset.target", self.target, "dataset=python", what)


@datasets.register("python", PythonDataOptions)
def make_python_data(options: PythonDataOptions, inputs: DatasetInputs) -> Dataset:
    """The data of the file, which is collected first if it is not there."""
    if not inputs.collected.exists():
        guide = python_guide(
            str(options.target), options.arguments, GuideView(), inputs.spec, 1, group="dataset"
        )
        attributes = {"behaviour": str(options.target), "behaviour_sha256": guide.fingerprint}
        collect_rollouts(
            inputs.collected,
            inputs.env,
            inputs.spec,
            guide,
            options.collected,
            options.seed,
            attributes,
        )
    return load_hdf5(inputs.collected, spec=inputs.spec)
