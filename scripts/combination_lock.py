"""How many episodes a combination lock costs, with and without a guide.

    python scripts/combination_lock.py simulate [ARM ...]
    python scripts/combination_lock.py report

What it has found is in ``results/lock``. This file, ``lock_simulation.py`` and
``combination_lock.yaml``, which lists the arms, are the protocol. They were committed before the
seeds were run that count, 0 and above; what was tried before was tried on seeds 100 and above.

The claim (Uchendu et al. 2023, arXiv 2204.02372, "Theoretical analysis") is that ε-greedy
exploration from scratch needs about A^H episodes to open a lock of H steps with A actions, and that
Jump-Start RL needs polynomially many behind a guide that visits the good state of each step with at
least some probability 1/C that does not depend on H.

The learner is tabular Q-learning with a learning rate of 1, a discount of 1 and values that begin
at 0. Actions of equal value are drawn evenly, and ε is 1/H. It learns from all steps of an episode,
as in jsrl, or where it is said so from its own steps alone, so that the guide's actions teach it
nothing and only the states that they lead to help. What is measured is the number of training
episodes, the one included after which the right action has the largest value in every state, so
that the greedy policy opens the lock alone. Episodes of evaluations, which JSRL-Curriculum decides
on, stand beside it. A learner is given up after a million episodes.

Who acts is settled by the package's own rules: JSRL-Curriculum with as many stages as the lock has
steps, an evaluation of 20 episodes after every tenth one, a window of one and a tolerance of 0.5;
Guided Roll-Back and Thompson sampling as they are by default, and where it is said so otherwise.

A guide of quality q means to give the right action, and else gives a wrong or a random one. Per
episode, q is the probability that all steps of an episode are meant right, so that C = 1/q. Per
step, C grows like q^-H, and nothing polynomial is promised.

What is asked:

1. Without a guide and with A = 2, is the slope of log2(episodes) against H 1.0 ± 0.1?
2. Behind every guide whose quality is 0.5 or more per episode, is the slope of log2(episodes)
   against log2(H), the degree of the polynomial, at most 3 with JSRL-Curriculum, up to H = 1,000?
3. Behind a guide that is always wrong, do Guided Roll-Back and Thompson sampling need at most twice
   the mean number of episodes without a guide, for each H?

The last is expected to fail in part, by what was seen on other seeds: Thompson sampling chooses
h = 0 in a quarter of the episodes if all five stages fail alike, and in more than half of them if
there are two, and roll-back takes a hundred episodes to be rid of a guide, which is more than twice
of little.

Slopes are least squares over all learners. Their 95 % intervals, and those of the ratios of means,
are percentiles of 10,000 bootstrap resamples of the learners within each H. An H at which a learner
was given up is left out of the fit, and the table says so.
"""

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from lock_simulation import Arm, learn

from jsrl.core.pictures import new_figure, png
from jsrl.core.streams import seed_sequence
from jsrl.report.figures import COLOURS

RESULTS = Path(__file__).parents[1] / "results" / "lock"
RESAMPLES = 10_000
FITS = {"exponential": lambda h: h, "polynomial": np.log2}
Episodes = dict[int, np.ndarray]
"""Of every learner, by H."""


@dataclass(frozen=True)
class Study:
    """An arm with the locks that it is tried on.

    Args:
        label: in words.
        horizons: every H.
        learners: how many, with the seeds from 0 on.
        fit: ``exponential`` or ``polynomial``; None where nothing is fitted.
        against: the arm whose mean its own is divided by.
        arm: of ``lock_simulation.Arm``, with H for the number of steps.
    """

    label: str
    horizons: list[int]
    learners: int
    fit: str | None = None
    against: str | None = None
    arm: dict[str, Any] = field(default_factory=dict)

    def at(self, horizon: int) -> Arm:
        """The arm for a lock of so many steps."""
        return Arm(
            **{
                name: {k: horizon if v == "H" else v for k, v in value.items()}
                if isinstance(value, dict)
                else value
                for name, value in self.arm.items()
            }
        )


STUDIES = {
    name: Study(**settings)
    for name, settings in yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text()).items()
}


def simulate(names: Sequence[str]) -> None:
    """Run arms; each learner becomes a line of ``episodes/ARM.csv``."""
    (RESULTS / "episodes").mkdir(parents=True, exist_ok=True)
    for name in names:
        study = STUDIES[name]
        rows: list[Sequence[Any]] = []
        for horizon in study.horizons:
            found = learn(study.at(horizon), horizon, range(study.learners))
            pairs = zip(found.episodes, found.evaluations, strict=True)
            rows += [(horizon, seed, *pair) for seed, pair in enumerate(pairs)]
            print(f"{name}, H = {horizon}: {found.episodes.mean():.1f} episodes", flush=True)
        header = ("horizon", "seed", "episodes", "evaluation_episodes")
        write_table(f"episodes/{name}.csv", header, rows)


def write_table(name: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    with (RESULTS / name).open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def read_column(name: str, column: str = "episodes") -> Episodes:
    """A column of an arm's table, by H."""
    path = RESULTS / "episodes" / f"{name}.csv"
    if not path.exists():
        raise SystemExit(f"{path} is not there; run `simulate {name}` first")
    with path.open() as file:
        rows = list(csv.DictReader(file))
    horizons = dict.fromkeys(int(row["horizon"]) for row in rows)
    return {h: np.array([int(r[column]) for r in rows if int(r["horizon"]) == h]) for h in horizons}


def resampled_means(values: np.ndarray, *key: str | int) -> np.ndarray:
    """The means of ``RESAMPLES`` bootstrap resamples of these learners."""
    draws = np.random.default_rng(seed_sequence(0, "lock", *key))
    means: np.ndarray = values[draws.integers(len(values), size=(RESAMPLES, len(values)))].mean(1)
    return means


def interval(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def slope(episodes: Episodes, kind: str) -> tuple[float, tuple[float, float]]:
    """The slope of log2(episodes) and its interval; every H has the same number of learners."""
    x = np.array([FITS[kind](h) for h in episodes], float)
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    logs = {h: np.log2(values) for h, values in episodes.items()}
    found = weights @ np.array([values.mean() for values in logs.values()])
    resampled = weights @ np.array([resampled_means(v, "slope", h) for h, v in logs.items()])
    return float(found), interval(resampled)


def ratio(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, tuple[float, float]]:
    """The ratio of two means and its interval; the learners are resampled independently."""
    resampled = resampled_means(ours, "ours") / resampled_means(theirs, "theirs")
    return float(ours.mean() / theirs.mean()), interval(resampled)


def report() -> None:
    """Write ``means.csv``, ``fits.csv``, ``ratios.csv`` and ``lock.png``; print the tables."""
    found = {name: read_column(name) for name in STUDIES}
    means, fits, ratios = [], [], []
    for name, study in STUDIES.items():
        evaluations = read_column(name, "evaluation_episodes")
        for h, values in found[name].items():
            given_up, beside = int((values == 0).sum()), f"{evaluations[h].mean():.1f}"
            mean = "" if given_up else f"{values.mean():.1f}"
            means.append((name, h, len(values), mean, np.median(values), beside, given_up))
        if study.fit is not None:
            whole = {h: values for h, values in found[name].items() if (values > 0).all()}
            value, (low, high) = slope(whole, study.fit)
            longest, left_out = max(whole), len(found[name]) - len(whole)
            numbers = (f"{value:.3f}", f"{low:.3f}", f"{high:.3f}")
            fits.append((name, study.label, study.fit, *numbers, min(whole), longest, left_out))
        if study.against is not None:
            for h, values in found[name].items():
                value, (low, high) = ratio(values, found[study.against][h])
                numbers = (f"{value:.2f}", f"{low:.2f}", f"{high:.2f}")
                ratios.append((name, study.label, h, *numbers))
    header = ("arm", "horizon", "learners", "mean", "median", "evaluation_episodes", "given_up")
    write_table("means.csv", header, means)
    bounds = ("low", "high")
    header = ("arm", "label", "fit", "slope", *bounds, "shortest", "longest", "left_out")
    write_table("fits.csv", header, fits)
    write_table("ratios.csv", ("arm", "label", "horizon", "ratio", *bounds), ratios)
    for rows in (means, fits, ratios):
        print("\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows), end="\n\n")
    draw(found)


PANELS = (
    (
        "exponential in H",
        ("none", "none_3_actions", "jsrl_0.75_a_step", "jsrl_0.9_a_step", "jsrl_10_stages",
         "thompson_right"),
    ),
    (
        "polynomial in H",
        ("jsrl_right", "jsrl_0.5_wrong", "jsrl_0.5_wrong_states", "roll_back_0.5_wrong",
         "thompson_all_right"),
    ),
    (
        "guide always wrong",
        ("none", "jsrl_wrong", "roll_back_wrong", "thompson_wrong", "thompson_two_wrong"),
    ),
)  # fmt: skip
"""A title and the arms of each panel of the figure."""


def draw(found: dict[str, Episodes]) -> None:
    """Every learner as a dot, the means joined by lines."""
    figure = new_figure(15.0, 5.6)
    for number, (title, names) in enumerate(PANELS):
        axes = figure.add_subplot(1, 3, number + 1)
        shown = set(STUDIES[names[-1]].horizons) if number == 2 else None
        for colour, name in zip(COLOURS, names, strict=False):
            draw_arm(axes, found[name], STUDIES[name].label, colour, shown)
        axes.set_yscale("log", base=2 if number != 1 else 10)
        if number == 1:
            axes.set_xscale("log")
        axes.set(title=title, xlabel="steps of the lock, H")
        if shown is not None:
            axes.set_xticks(sorted(shown))
        if number == 0:
            axes.set_ylabel("training episodes until solved")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7.5, loc="upper center", bbox_to_anchor=(0.5, -0.13))
    (RESULTS / "lock.png").write_bytes(png(figure))


def draw_arm(
    axes: Any, episodes: Episodes, label: str, colour: str, shown: set[int] | None = None
) -> None:
    """The learners of an arm, at the H that are shown and were opened by all."""
    whole = {
        h: values
        for h, values in episodes.items()
        if (values > 0).all() and (shown is None or h in shown)
    }
    for h, values in whole.items():
        axes.plot(np.full(len(values), h), values, ".", color=colour, alpha=0.15, markersize=3)
    means = [values.mean() for values in whole.values()]
    axes.plot(list(whole), means, "o-", color=colour, markersize=4, label=label)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=("simulate", "report"))
    parser.add_argument("arms", nargs="*", help="of combination_lock.yaml; without, all")
    given = parser.parse_args()
    unknown = sorted(set(given.arms) - set(STUDIES))
    if unknown:
        parser.error(f"there is no arm {unknown[0]}; choose from {', '.join(STUDIES)}")
    torch.set_num_threads(1)
    if given.command == "report":
        report()
    else:
        simulate(given.arms or list(STUDIES))
