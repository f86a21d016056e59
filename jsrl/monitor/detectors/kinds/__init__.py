"""Detectors: what is compared of a reference and of what is tested. One kind a file.

``monitor.detectors`` names those that are asked; see ``jsrl.monitor.detectors.ensemble`` for how
they decide together.
"""

from jsrl.core.discovery import import_all
from jsrl.monitor.detectors.kinds.base import (
    FAMILIES,
    Detector,
    DetectorOptions,
    ScoringDetector,
    Statistics,
    detectors,
)

__all__ = [
    "FAMILIES",
    "Detector",
    "DetectorOptions",
    "ScoringDetector",
    "Statistics",
    "detectors",
]

# Importing a kind registers it.
import_all(__name__, __path__)
