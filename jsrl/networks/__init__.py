"""Networks with a leading seed axis: layers, activations, policies, and policies as files."""

import importlib
from typing import Any

FORMER_CONTENTS = ("policies", "layers", "saved_policies")
"""Modules that were one, ``jsrl.networks``, before this was a room."""


def __getattr__(name: str) -> Any:
    # Imported when asked for: a user's own file may still name what an earlier version had here.
    if not name.startswith("_"):
        for place in FORMER_CONTENTS:
            contents = vars(importlib.import_module(f"jsrl.networks.{place}"))
            if name in contents:
                return contents[name]
    raise AttributeError(f"module 'jsrl.networks' has no attribute {name!r}")
