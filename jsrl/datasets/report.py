"""What is in a data set: trajectories, success, and histograms of return and length."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int64

from jsrl.core.files import csv_text, write_whole
from jsrl.core.pictures import new_figure, png
from jsrl.datasets.dataset import Dataset
from jsrl.datasets.episodes import SAME_STATE_TOLERANCE

BINS = 40
COLOUR = "#0072B2"


@dataclass(frozen=True)
class Trajectories:
    """The walks of a data set, K of them.

    A trajectory goes on through terminals inside of it, as in D4RL's AntMaze, where every step at
    the goal is one; a loader for learning makes an episode of each piece between them.

    Args:
        lengths: transitions.
        returns: undiscounted sums of rewards.
        successes: whether a terminal, or the higher one of two rewards, occurs.
        knows_success: whether the data have either; else nothing is known of success.
    """

    lengths: Int64[np.ndarray, " K"]
    returns: Float[np.ndarray, " K"]
    successes: Bool[np.ndarray, " K"]
    knows_success: bool

    @property
    def success_rate(self) -> str:
        """In per cent, for people."""
        return f"{self.successes.mean():.1%}" if self.knows_success else "unknown"


def trajectories(dataset: Dataset) -> Trajectories:
    """Join the episodes of a data set where one begins in the state in which the last ended.

    Of a terminal the state that follows may not have been stored, its own standing in for it. The
    trajectory then goes on if the next row's state is no further off, in any of its numbers, than
    those of two successive steps ever are.
    """
    data = dataset.data
    joined = _same(data.next_observations[:-1], data.observations[1:])
    unknown = data.terminals & _same(data.next_observations, data.observations)
    steps = np.abs(np.diff(data.observations, axis=0))
    within = ~(data.terminals | data.timeouts)[:-1]
    if within.any():
        joined |= unknown[:-1] & (steps <= steps[within].max(axis=0)).all(axis=-1)
    begins = np.concatenate([[True], ~joined | data.timeouts[:-1]])
    starts = np.flatnonzero(begins)
    values = np.unique(data.rewards)
    good = data.terminals.copy()
    if len(values) == 2:
        good |= data.rewards == values[1]
    return Trajectories(
        lengths=np.diff(starts, append=len(data)),
        returns=np.add.reduceat(data.rewards.astype(np.float64), starts),
        successes=np.logical_or.reduceat(good, starts),
        knows_success=len(values) == 2 or bool(data.terminals.any()),
    )


def _same(
    first: Float[np.ndarray, "N O"], second: Float[np.ndarray, "N O"]
) -> Bool[np.ndarray, " N"]:
    tolerance = SAME_STATE_TOLERANCE
    same: np.ndarray = np.isclose(first, second, rtol=tolerance, atol=tolerance).all(axis=-1)
    return same


def report_dataset(dataset: Dataset, folder: Path) -> str:
    """Write ``report.md``, ``histograms.png`` and ``trajectories.csv``.

    Args:
        dataset: what to describe.
        folder: where to; made if need be.

    Returns:
        The table of the report, as text.

    Raises:
        UserError: if a file cannot be written.
    """
    found = trajectories(dataset)
    table = _table(dataset, found)
    title = Path(dataset.source).name
    write_whole(folder / "histograms.png", _histograms(found, title))
    write_whole(folder / "trajectories.csv", _rows(found).encode())
    text = f"# {title}\n\n{table}\n\n![Histograms of return and length](histograms.png)\n\n{NOTE}\n"
    write_whole(folder / "report.md", text.encode())
    return f"{table}\nsee {folder}"


NOTE = (
    "A trajectory is what was collected in one go; it succeeds if it passes through a terminal "
    "state or, where there are but two rewards, gets the higher one. Episodes for learning end at "
    "every terminal, so that one trajectory can hold several."
)


def _table(dataset: Dataset, found: Trajectories) -> str:
    lines = {
        "transitions": f"{len(dataset)}",
        "trajectories": f"{len(found.lengths)}",
        "successful trajectories": found.success_rate,
        "episodes for learning": f"{dataset.num_episodes}",
        "of them ending in a terminal state": f"{dataset.num_successes}",
        "observation size, action size": f"{dataset.observation_size}, {dataset.action_size}",
        "return, 5 % / median / 95 %": _spread(found.returns),
        "length, 5 % / median / 95 %": _spread(found.lengths),
        "contents (SHA-256)": dataset.fingerprint[:16],
    }
    width = max(map(len, lines))
    rows = [f"| {name:<{width}} | {value} |" for name, value in lines.items()]
    return "\n".join([f"| {'what':<{width}} | value |", f"|{'-' * (width + 2)}|---|", *rows])


def _spread(values: np.ndarray) -> str:
    return " / ".join(f"{value:.4g}" for value in np.percentile(values, [5, 50, 95]))


def _rows(found: Trajectories) -> str:
    numbers = zip(found.lengths, found.returns, found.successes.astype(int), strict=True)
    lines = [(index, *line) for index, line in enumerate(numbers)]
    return csv_text([("trajectory", "length", "return", "success"), *lines])


def _histograms(found: Trajectories, title: str) -> bytes:
    figure = new_figure(9.0, 3.2, dots_per_inch=100)
    panels = figure.subplots(1, 2)
    for axis, values, name in (
        (panels[0], found.returns, "return"),
        (panels[1], found.lengths, "length (steps)"),
    ):
        failed, succeeded = values[~found.successes], values[found.successes]
        axis.hist(
            [succeeded, failed],
            bins=BINS,
            stacked=True,
            color=[COLOUR, "0.7"],
            label=["successful", "not successful"],
        )
        axis.set_xlabel(name)
        axis.set_ylabel("trajectories")
        axis.spines[["top", "right"]].set_visible(False)
    panels[1].legend(frameon=False, fontsize=8)
    count = len(found.lengths)
    figure.suptitle(f"{title}: {count} trajectories, success rate {found.success_rate}")
    return png(figure)
