"""What can be told to be wrong with the bar of a grid, ``grid.never_behind``."""

import math

from jsrl.core.errors import UserError
from jsrl.grid.config import GridConfig, NeverBehindConfig
from jsrl.grid.names import MEASURED_ON_THE_WAY, known, refuse_repeated

KEY = "grid.never_behind"


def check_never_behind(grid: GridConfig) -> None:
    """Raise UserError for the first name or value of the bar that cannot be meant."""
    bar = grid.never_behind
    if bar == NeverBehindConfig():
        return
    _check_names(bar, grid)
    _check_numbers(bar)
    if grid.measure not in MEASURED_ON_THE_WAY:
        raise UserError(
            f"{KEY} compares arms on the way, where grid.measure={grid.measure} is not known; use "
            f"grid.measure={' or '.join(MEASURED_ON_THE_WAY)}, or leave {KEY} out"
        )
    for cell in grid.cells:
        arms = list(grid.arms) if cell.arms is None else cell.arms
        if bar.arm in arms and bar.over in arms and set(bar.baselines) & set(arms):
            return
    raise UserError(
        f"{KEY} needs a cell with the arm {bar.arm}, with {bar.over} and with one of "
        f"{', '.join(bar.baselines)}, and there is none; add them to the arms of a cell"
    )


def _check_names(bar: NeverBehindConfig, grid: GridConfig) -> None:
    for name, what in (
        ("arm", "the arm that is held to the bar"),
        ("baselines", "the arms of which the best counts"),
        ("over", "the arm of fine-tuning"),
    ):
        if not getattr(bar, name):
            raise UserError(f"{KEY}.{name} is not set; name {what}")
    named = {"arm": [str(bar.arm)], "baselines": bar.baselines, "over": [str(bar.over)]}
    for name, arms in named.items():
        known(f"{KEY}.{name}", arms, grid.arms)
        for arm in arms:
            if grid.arms[arm].policy != "exploration":
                raise UserError(
                    f"{KEY}.{name} has {arm}, whose policy is {grid.arms[arm].policy}, but the "
                    "exploration-policy alone is compared; use an arm with policy: exploration"
                )
    refuse_repeated(f"{KEY}.baselines", bar.baselines)
    for name in ("baselines", "over"):
        if bar.arm in named[name]:
            raise UserError(
                f"{KEY}.{name} has {bar.arm}, which is the arm that is held to the bar; name others"
            )


def _check_numbers(bar: NeverBehindConfig) -> None:
    if not (math.isfinite(bar.margin) and bar.margin >= 0):
        raise UserError(f"{KEY}.margin={bar.margin} must be a number of at least 0")
    if not bar.at:
        raise UserError(f"{KEY}.at has no point; name shares of the online steps, such as [0.5, 1]")
    if bar.at != sorted(set(bar.at)):
        raise UserError(f"{KEY}.at={bar.at} must rise; name each point once, the first one first")
    shares = [("at", share) for share in bar.at]
    shares += [("improvement_at", bar.improvement_at), ("improvement_cells", bar.improvement_cells)]
    for name, share in shares:
        if not 0 < share <= 1:
            raise UserError(f"{KEY}.{name} has {share}, which must lie in (0, 1]")
    if not 0 <= bar.improvement <= 1:
        raise UserError(f"{KEY}.improvement={bar.improvement} must lie in [0, 1]")
