"""Jump-Start Reinforcement Learning.

A fixed guide-policy acts for the first steps of each episode, a learning exploration-policy
finishes it, and the guide's share shrinks as the learner improves.
"""

import importlib
import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

# Before the first product of matrices: on some processors MKL otherwise rounds a seed's differently
# alone and in company. It costs no speed.
os.environ.setdefault("MKL_CBWR", "AUTO")

from jsrl.core.errors import UserError
from jsrl.core.former_names import find_former_names
from jsrl.envs.registration import register

if TYPE_CHECKING:
    from jsrl.commands.from_python import train
    from jsrl.monitor import Monitor
    from jsrl.monitor.attribution.explanation import explain
    from jsrl.run.saved import load_policy

__version__ = "0.1.0"
__all__ = ["Monitor", "UserError", "__version__", "explain", "load_policy", "train"]

LAZY = {
    "Monitor": "jsrl.monitor",
    "explain": "jsrl.monitor.attribution.explanation",
    "load_policy": "jsrl.run.saved",
    "train": "jsrl.commands.from_python",
}
"""What is imported when it is asked for, so that ``import jsrl`` stays quick, and where it is."""


class _Package(ModuleType):
    """A package whose functions stay what they are.

    Python binds a module that is imported as an attribute of its package, and ``jsrl.train`` was a
    module in earlier versions.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in LAZY and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
register()
find_former_names()


def __getattr__(name: str) -> Any:
    if name not in LAZY:
        raise AttributeError(f"module 'jsrl' has no attribute {name!r}")
    return getattr(importlib.import_module(LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *LAZY})
