"""Tells from a policy's activations when its inputs have gone wrong.

``Monitor.wrap`` watches any ``torch.nn.Module``; ``mmd_permutation_test`` is the test below it. In
a run it is ``monitor=on``, afterwards ``jsrl monitor``.
"""

from jsrl.monitor.deployed import Monitor
from jsrl.monitor.faults import Fault, with_fault
from jsrl.monitor.joint import joint_min_p
from jsrl.monitor.mmd import MMDResult, mmd_permutation_test, mmd_permutation_tests
from jsrl.monitor.recording import Recording
from jsrl.monitor.witness import rank_samples

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
