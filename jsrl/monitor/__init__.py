"""Tells when a policy's inputs have gone wrong: by columns of its observations and by its layers.

``Monitor.wrap`` watches any ``torch.nn.Module``; ``mmd_permutation_test`` is the test below it. In
a run it is ``monitor=on``, afterwards ``jsrl monitor``.
"""

from jsrl.monitor.attribution.witness import rank_samples
from jsrl.monitor.capture.recording import Recording
from jsrl.monitor.detectors.joint import joint_min_p
from jsrl.monitor.detectors.mmd import MMDResult, mmd_permutation_test, mmd_permutation_tests
from jsrl.monitor.studies.faults import Fault, with_fault
from jsrl.monitor.watch.deployed import Monitor

__all__ = [
    "Fault",
    "MMDResult",
    "Monitor",
    "Recording",
    "joint_min_p",
    "mmd_permutation_test",
    "mmd_permutation_tests",
    "rank_samples",
    "with_fault",
]
