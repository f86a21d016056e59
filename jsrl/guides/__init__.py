"""Guide-policies: anything that can act for the first steps of an episode.

One file a kind: ``network`` (policies of this package and its checkpoints), ``python`` (a user's
callable or class), ``torchscript``, ``torch_export``, ``onnx``, ``sb3``, ``d3rlpy``, ``robomimic``
(files of other libraries), ``waypoint`` (scripted, for point mazes), ``replay`` (the actions of
demonstrations), ``human`` (a person), ``several`` (one of these for each episode).

What can run code when loaded: ``python``, and ``torchscript``, ``torch_export``, ``sb3`` and
``robomimic``, which say so; the others run none.
"""

from jsrl.core.discovery import import_all
from jsrl.guides.base import ForeignGuide, RowPolicy
from jsrl.guides.d3rlpy import d3rlpy_guide
from jsrl.guides.network import NetworkGuide
from jsrl.guides.npz import npz_guide
from jsrl.guides.onnx import onnx_guide
from jsrl.guides.options import GuideInputs, GuideOptions, guides
from jsrl.guides.python import python_guide
from jsrl.guides.robomimic import robomimic_guide
from jsrl.guides.sb3 import sb3_guide
from jsrl.guides.torch_export import torch_export_guide
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
    "d3rlpy_guide",
    "guide_line",
    "guide_lines",
    "guides",
    "npz_guide",
    "onnx_guide",
    "python_guide",
    "robomimic_guide",
    "sb3_guide",
    "torch_export_guide",
    "torchscript_guide",
    "waypoint_guide",
]

# Importing a kind registers it.
import_all(__name__, __path__)
