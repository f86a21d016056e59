"""What single columns of the observation do within an episode: one kind or a few a file.

One sensor among thirty hardly moves a kernel of all columns, and a sensor that contradicts the
others may move none of their distributions. So every column has a few numbers in every episode,
which are compared like a layer is: all under the same splits of whole episodes, in one decision.
"""

from jsrl.core.discovery import import_all
from jsrl.monitor.detectors.margins.margin import (
    STANDARD,
    Columns,
    margin_names,
    margins_of_episodes,
    register_margin,
    require_margins,
)

__all__ = [
    "STANDARD",
    "Columns",
    "margin_names",
    "margins_of_episodes",
    "register_margin",
    "require_margins",
]

# Importing a kind registers it.
import_all(__name__, __path__)
