"""Attacks on what a network sees: one kind a file, each behind ``Attack``."""

from jsrl.core.discovery import import_all
from jsrl.monitor.studies.attacks.ball import Ball
from jsrl.monitor.studies.attacks.base import Attack, AttackOptions, Objective, attacks

__all__ = ["Attack", "AttackOptions", "Ball", "Objective", "attacks"]

# Importing a kind registers it.
import_all(__name__, __path__)
