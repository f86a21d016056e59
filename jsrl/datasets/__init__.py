"""Offline data: read from D4RL files or Minari, checked, and split into episodes.

Every loader returns a ``Dataset``; ``save_hdf5`` writes one file in D4RL's layout.
"""

from jsrl.datasets.d4rl import load_d4rl, load_hdf5, save_hdf5
from jsrl.datasets.dataset import Dataset
from jsrl.datasets.minari import load_minari

__all__ = ["Dataset", "load_d4rl", "load_hdf5", "load_minari", "save_hdf5"]
