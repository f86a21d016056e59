"""Jump-Start Reinforcement Learning.

A fixed guide-policy acts for the first steps of each episode, a learning exploration-policy
finishes it, and the guide's share shrinks as the learner improves.
"""

import os
from typing import TYPE_CHECKING, Any

# Before the first product of matrices: on some processors MKL otherwise rounds a seed's differently
# alone and in company. It costs no speed.
os.environ.setdefault("MKL_CBWR", "AUTO")

from jsrl.envs.registration import register

if TYPE_CHECKING:
    from jsrl.monitor import Monitor
    from jsrl.runs import load_policy

__version__ = "0.1.0"
__all__ = ["Monitor", "__version__", "load_policy"]

register()


def __getattr__(name: str) -> Any:
    # Imported when asked for, so that `import jsrl` stays quick.
    if name == "load_policy":
        from jsrl.runs import load_policy

        return load_policy
    if name == "Monitor":
        from jsrl.monitor import Monitor

        return Monitor
    raise AttributeError(f"module 'jsrl' has no attribute {name!r}")
