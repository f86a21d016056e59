"""The kinds of data that are read: D4RL's layout or names, robomimic's layout, Minari."""

from dataclasses import dataclass

from jsrl.core.errors import UserError
from jsrl.core.ranges import one_of
from jsrl.datasets.dataset import Dataset
from jsrl.datasets.load import NEEDS, load_dataset, require_source
from jsrl.datasets.options import DatasetInputs, FileOptions, ReadOptions, datasets


@dataclass
class D4RLOptions(FileOptions):
    """Of ``dataset=d4rl``."""

    # hdf5 reads the file; d4rl asks the original package, if it can be imported.
    backend: str = "hdf5"

    WANTED = NEEDS["d4rl"]

    def check(self) -> None:
        super().check()
        one_of("dataset.backend", self.backend, ("hdf5", "d4rl"))
        if self.backend == "d4rl" and str(self.path).endswith((".hdf5", ".h5")):
            raise UserError(
                f"dataset.backend=d4rl is for names of D4RL, but dataset.path={self.path} is a "
                "file, which is read as it is: leave dataset.backend out, or give a name such as "
                "antmaze-umaze-v2"
            )

    def check_source(self) -> None:
        require_source("d4rl", self.path)


@dataclass
class RobomimicOptions(FileOptions):
    """Of ``dataset=robomimic``."""

    WANTED = NEEDS["robomimic"]

    def check_source(self) -> None:
        require_source("robomimic", self.path)


@dataclass
class MinariOptions(ReadOptions):
    """Of ``dataset=minari``."""

    WANTED = NEEDS["minari"]

    def check_source(self) -> None:
        require_source("minari", self.path)


@datasets.register("d4rl", D4RLOptions)
def make_d4rl(options: D4RLOptions, inputs: DatasetInputs) -> Dataset:
    """A file, or the file of a D4RL name."""
    reading = options.reading(inputs.spec)
    return load_dataset("d4rl", options.path or "", reading, backend=options.backend)


@datasets.register("robomimic", RobomimicOptions)
def make_robomimic(options: RobomimicOptions, inputs: DatasetInputs) -> Dataset:
    """A file of demonstrations."""
    return load_dataset("robomimic", options.path or "", options.reading(inputs.spec))


@datasets.register("minari", MinariOptions)
def make_minari(options: MinariOptions, inputs: DatasetInputs) -> Dataset:
    """A data set of the local store or of Minari's server."""
    return load_dataset("minari", options.path or "", options.reading(inputs.spec))
