"""Learning algorithms, one a file, each behind ``core.protocols.Learner``."""

from jsrl.learners import bc as bc
from jsrl.learners import custom as custom
from jsrl.learners import iql as iql
from jsrl.learners import sac as sac
from jsrl.learners.options import LearnerInputs, LearnerOptions, learners

__all__ = ["LearnerInputs", "LearnerOptions", "learners"]
