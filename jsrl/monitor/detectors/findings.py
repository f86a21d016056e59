"""What a test of episodes is asked, and what it finds."""

import math
from dataclasses import dataclass, field, replace
from typing import Any, Self

from jsrl.core.errors import UserError
from jsrl.core.ranges import one_of
from jsrl.monitor.detectors.margins import STANDARD, require_margins
from jsrl.monitor.detectors.window import ACTIONS, OUTPUT_KINDS

DRAWS_OF_LEVEL = 50
"""How many splits are expected beyond a p-value at the level, if as many are drawn as it asks for.
"""


@dataclass(frozen=True)
class DetectorSettings:
    """How episodes are compared.

    Args:
        permutations: how many splits are drawn where there are more; otherwise all are compared.
        rows_per_episode: how many steps of an episode count at most; they are evenly spread.
        time_bins: the steps of an episode at which a new bin of time begins.
        margins: the kinds of margins that are compared beside the layers.
        detectors: what is compared: the names of detectors, their options, or mappings with a
            ``kind`` and options; None for the default ones, which leave out what they lack. See
            ``jsrl.monitor.detectors.ensemble``.
        outputs: what the network's outputs are: ``actions`` of a Box, or the ``logits`` of classes.
        projection_seed: of the random projections of wide layers; see ``reduction``.

    Raises:
        UserError: if there is no such kind of margin or of output.
    """

    permutations: int = 50_000
    rows_per_episode: int = 32
    time_bins: tuple[int, ...] = ()
    margins: tuple[str, ...] = STANDARD
    detectors: tuple[Any, ...] | None = None
    outputs: str = ACTIONS
    projection_seed: int = 0

    def __post_init__(self) -> None:
        require_margins(self.margins)
        one_of("monitor.outputs", self.outputs, OUTPUT_KINDS)

    def for_level(self, level: float) -> Self:
        """With no more permutations than a test at this level asks for.

        A level of 5 % is decided by a thousand splits, one of 0.00025 asks for 200,000.
        """
        return replace(self, permutations=min(self.permutations, math.ceil(DRAWS_OF_LEVEL / level)))


@dataclass(frozen=True)
class LayerFinding:
    """What one layer shows in one cell; the p-value is not corrected for the other layers."""

    layer: str
    actor: str
    time_bin: int
    p_value: float
    statistic: float
    dead_units: float
    saturated_units: float


@dataclass(frozen=True)
class MarginFinding:
    """What one column of the observation shows; ``kind`` is the name of a margin.

    The column is -1 where there are so many columns that they are compared together. The p-value is
    not corrected for the other columns.
    """

    column: int
    actor: str
    kind: str
    p_value: float


@dataclass(frozen=True)
class DetectorFinding:
    """What one detector shows: its joint p-value, and that of each of its statistics by name.

    None of them is corrected for other detectors.
    """

    kind: str
    p_value: float
    statistics: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Finding:
    """What a test found.

    Args:
        p_value: the joint p-value over all families; 0 where something is not finite.
        layers_p_value: the joint p-value over the MMD of all layers alone.
        smallest_p: the smallest p-value that these episodes could have given.
        layers: what each layer shows in each cell.
        margins: what each column of the observation shows.
        action_p_value: the p-value of the χ² statistic of binned actions.
        saturation: the share of actions at their bounds, in the reference and in the episodes that
            are tested.
        finite: False where a number is NaN or infinite, which is a fault without any test.
        cause: of an alarm, what is most likely wrong, see ``jsrl.monitor.attribution.verdict``;
            None where permutations have not decided, or there is no alarm.
        families: the p-value of each family, which is not corrected for the other families.
        detectors: what each detector shows.
        left_out: a line for each default detector that lacked something.
        breaches: a line for each plain bound that is broken, without any test.
    """

    p_value: float
    layers_p_value: float
    smallest_p: float
    layers: tuple[LayerFinding, ...]
    margins: tuple[MarginFinding, ...]
    action_p_value: float | None
    saturation: tuple[float, float]
    finite: bool
    cause: str | None = None
    families: dict[str, float] = field(default_factory=dict)
    detectors: tuple[DetectorFinding, ...] = ()
    left_out: tuple[str, ...] = ()
    breaches: tuple[str, ...] = ()


class NothingToCompareError(UserError):
    """No cell has two steps on both sides."""
