"""Guide-policies: anything that can act for the first steps of an episode.

One file a kind: ``network`` (policies of this package and its checkpoints), ``python`` (a user's
callable or class), ``torchscript``, ``onnx``, ``waypoint`` (scripted, for point mazes), ``replay``
(the actions of demonstrations), ``human`` (a person), ``several`` (one of these for each episode).
What runs code when loaded: ``python`` and ``torchscript``; the others run none.
"""

from jsrl.core.discovery import import_all
from jsrl.guides.base import ForeignGuide, RowPolicy
from jsrl.guides.network import NetworkGuide
from jsrl.guides.npz import npz_guide
from jsrl.guides.onnx import onnx_guide
from jsrl.guides.options import GuideInputs, GuideOptions, guides
from jsrl.guides.python import python_guide
from jsrl.guides.torchscript import torchscript_guide
from jsrl.guides.view import ActionRange, GuideView, guide_line, guide_lines
from jsrl.guides.waypoint import WaypointController, waypoint_guide

__all__ = [
    "ActionRange",
    "ForeignGuide",
    "GuideInputs",
    "GuideOptions",
    "GuideView",
    "NetworkGuide",
    "RowPolicy",
    "WaypointController",
    "guide_line",
    "guide_lines",
    "guides",
    "npz_guide",
    "onnx_guide",
    "python_guide",
    "torchscript_guide",
    "waypoint_guide",
]

# Importing a kind registers it.
import_all(__name__, __path__)
