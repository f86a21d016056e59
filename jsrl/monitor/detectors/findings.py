"""What a test of episodes is asked, and what it finds."""

from dataclasses import dataclass

from jsrl.core.errors import UserError
from jsrl.monitor.detectors.margins import STANDARD, require_margins


@dataclass(frozen=True)
class DetectorSettings:
    """How episodes are compared.

    Args:
        permutations: how many splits are drawn where there are more; otherwise all are compared.
        rows_per_episode: how many steps of an episode count at most; they are evenly spread.
        time_bins: the steps of an episode at which a new bin of time begins.
        margins: the kinds of margins that are compared beside the layers.

    Raises:
        UserError: if there is no such kind of margin.
    """

    permutations: int = 50_000
    rows_per_episode: int = 32
    time_bins: tuple[int, ...] = ()
    margins: tuple[str, ...] = STANDARD

    def __post_init__(self) -> None:
        require_margins(self.margins)


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

    The p-value is not corrected for the other columns.
    """

    column: int
    actor: str
    kind: str
    p_value: float


@dataclass(frozen=True)
class Finding:
    """What a test found.

    Args:
        p_value: the joint p-value over all cells and margins; 0 where something is not finite.
        layers_p_value: the joint p-value over the cells of layers alone.
        smallest_p: the smallest p-value that these episodes could have given.
        layers: what each layer shows in each cell.
        margins: what each column of the observation shows.
        action_p_value: the p-value of the χ² statistic of binned actions.
        saturation: the share of actions at their bounds, in the reference and in the episodes that
            are tested.
        finite: False where a number is NaN or infinite, which is a fault without any test.
        cause: a name for what is wrong, where something can tell; so far it is always None.
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


class NothingToCompareError(UserError):
    """No cell has two steps on both sides."""
