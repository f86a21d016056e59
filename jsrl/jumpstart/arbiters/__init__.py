"""Arbiters: rules that settle at every step who acts, guide or explorer. One kind a file.

A rule is a pure function of what it is asked and of a state of tensors, so that collector,
evaluator and resume go by the same one.
"""

from jsrl.core.discovery import import_all
from jsrl.jumpstart.arbiters.base import ArbiterOptions, Rule, TargetOptions, arbiters
from jsrl.jumpstart.arbiters.commitment import Committed, build_arbiter
from jsrl.jumpstart.arbiters.handover import Handover, HandoverOptions

__all__ = [
    "ArbiterOptions",
    "Committed",
    "Handover",
    "HandoverOptions",
    "Rule",
    "TargetOptions",
    "arbiters",
    "build_arbiter",
]

# Importing a kind registers it.
import_all(__name__, __path__)
