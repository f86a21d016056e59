"""Image encoders with a leading seed axis: one kind a file, and what joins them with a vector."""

from jsrl.core.discovery import import_all
from jsrl.networks.encoders.encoder import encoders

__all__ = ["encoders"]

# Importing a kind registers it.
import_all(__name__, __path__)
