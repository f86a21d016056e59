"""No offline data."""

from jsrl.datasets.options import DatasetInputs, DatasetOptions, datasets


@datasets.register("none")
def make_none(options: DatasetOptions, inputs: DatasetInputs) -> None:
    """There are none."""
