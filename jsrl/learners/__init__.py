"""Learning algorithms, one a file, each behind ``core.protocols.Learner``."""

from jsrl.core.discovery import import_all
from jsrl.learners.options import LearnerInputs, LearnerOptions, learners

__all__ = ["LearnerInputs", "LearnerOptions", "learners"]

# Importing a kind registers it.
import_all(__name__, __path__)
