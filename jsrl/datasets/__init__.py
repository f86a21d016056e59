"""Offline data: read from D4RL, robomimic or Minari, checked, and split into episodes.

Every loader returns a ``Dataset``; ``save_hdf5`` writes one file in D4RL's layout.
"""

from jsrl.core.discovery import import_all
from jsrl.datasets.d4rl import load_d4rl, load_hdf5, save_hdf5
from jsrl.datasets.dataset import Dataset, DatasetWarning
from jsrl.datasets.load import load_dataset, require_source
from jsrl.datasets.minari import load_minari
from jsrl.datasets.options import DatasetInputs, DatasetOptions, datasets
from jsrl.datasets.reading import Reading

__all__ = [
    "Dataset",
    "DatasetInputs",
    "DatasetOptions",
    "DatasetWarning",
    "Reading",
    "datasets",
    "load_d4rl",
    "load_dataset",
    "load_hdf5",
    "load_minari",
    "require_source",
    "save_hdf5",
]

# Importing a kind registers it.
# Those left out collect data in a simulator, which a run on data that are there does without.
import_all(__name__, __path__, leave_out=("adroit", "antmaze", "antmaze_walks"))
