"""Curricula: how many steps the guide acts in each episode. One kind a file.

A curriculum is a pure value of one seed. ``advance`` returns the next one; nothing is changed in
place, so that an evaluation can ask for guide steps without moving the training's clock.
"""

from jsrl.core.discovery import import_all
from jsrl.jumpstart.curricula.base import (
    CurriculumOptions,
    DecidingOptions,
    MeasuredOptions,
    curricula,
    curriculum_state,
    restore_curriculum,
    stage_steps,
)
from jsrl.jumpstart.curricula.constant import ConstantCurriculum
from jsrl.jumpstart.curricula.custom import CustomOptions
from jsrl.jumpstart.curricula.jump_start import JumpStartCurriculum
from jsrl.jumpstart.curricula.random_stages import RandomCurriculum

__all__ = [
    "ConstantCurriculum",
    "CurriculumOptions",
    "CustomOptions",
    "DecidingOptions",
    "JumpStartCurriculum",
    "MeasuredOptions",
    "RandomCurriculum",
    "curricula",
    "curriculum_state",
    "restore_curriculum",
    "stage_steps",
]

# Importing a kind registers it.
import_all(__name__, __path__)
