"""How far arms come if the evaluations that steer training count as training does.

An environment step in an evaluation that a curriculum decides on is spent as one of training is.
What only measures is not counted, and neither are the guide's own episodes before training, from
which H1 comes: they are the same for all that begin from H1, and are given beside the total.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jsrl.grid.names import MEASURED_ON_THE_WAY
from jsrl.grid.plan import GUIDE
from jsrl.grid.results import Result
from jsrl.jumpstart.curricula import DecidingOptions, curricula


@dataclass(frozen=True)
class Cost:
    """What an arm in a cell spent, and what it had reached by then. Numbers are of one seed.

    Args:
        result: the arm.
        guide_episodes: of the guide, before training; mean over seeds.
        decision_episodes: of evaluations that the curriculum decided on; mean over seeds.
        decision_steps: environment steps in these; mean over seeds.
        budget: environment steps, of training and of these evaluations, at which arms are compared.
        trained: how many of them were training; mean over seeds.
        values: the measure of each seed at that budget.
    """

    result: Result
    guide_episodes: float
    decision_episodes: float
    decision_steps: float
    budget: int
    trained: float
    values: list[float]


def costs(results: Sequence[Result], measure: str) -> list[Cost]:
    """Those of the arms of one cell whose costs are known.

    Args:
        results: of the cell.
        measure: ``success`` or ``return``; others are not measured on the way.

    Returns:
        Nothing where no run has counted: records of earlier versions say nothing of it.
    """
    arms = [r for r in results if r.arm != GUIDE and r.policy != GUIDE and r.steps > 0]
    counted = any("evaluation_cost" in r for arm in arms for r in arm.records.values())
    if measure not in MEASURED_ON_THE_WAY or not counted:
        return []
    spending = {arm.name: _spending(arm) for arm in arms}
    known = [arm for arm in arms if spending[arm.name]]
    totals = [s.total for arm in known for s in spending[arm.name]]
    budget = min(totals, default=0)
    return [_cost(arm, spending[arm.name], measure, budget) for arm in known]


@dataclass(frozen=True)
class _Spending:
    """Of one seed: its record, and what it spent on evaluations up to each of them."""

    record: Mapping[str, Any]
    guide_episodes: int
    episodes: int
    env_steps: int
    curve: Mapping[int, int]

    @property
    def trained(self) -> int:
        return int(self.record["settings"]["online.steps"])

    @property
    def total(self) -> int:
        return self.trained + self.env_steps


def _spending(arm: Result) -> list[_Spending]:
    """Of the seeds that did not fail; empty if that of one is not known."""
    found = []
    for record in (r for r in arm.records.values() if not r["failed"]):
        cost = record.get("evaluation_cost")
        if cost is not None:
            at = dict(zip(cost["step"], cost["env_steps"], strict=True))
            spent = cost["decision_episodes"], cost["decision_env_steps"]
            found.append(_Spending(record, cost["guide_episodes"], *spent, at))
        elif _decides(str(record["settings"]["curriculum.kind"])):
            return []
        else:
            found.append(_Spending(record, 0, 0, 0, {}))
    return found


def _decides(kind: str) -> bool:
    """Whether a curriculum goes by evaluations, as far as its name tells."""
    known = kind in curricula.names()
    return not known or issubclass(curricula[kind].options, DecidingOptions)


def _cost(arm: Result, spending: Sequence[_Spending], measure: str, budget: int) -> Cost:
    reached = [_reached(s, arm.policy, measure, budget) for s in spending]
    return Cost(
        result=arm,
        guide_episodes=float(np.mean([s.guide_episodes for s in spending])),
        decision_episodes=float(np.mean([s.episodes for s in spending])),
        decision_steps=float(np.mean([s.env_steps for s in spending])),
        budget=budget,
        trained=float(np.mean([trained for trained, _ in reached])),
        values=[value for _, value in reached if value is not None],
    )


def _reached(
    spending: _Spending, policy: str, measure: str, budget: int
) -> tuple[int, float | None]:
    """The training steps of the last evaluation within the budget, and what it found."""
    record = spending.record
    if spending.total <= budget:
        return spending.trained, record["final"][policy][measure]
    table, spent, last = record["curve"], 0, (0, None)
    for step, value in zip(table["step"], table[f"{policy}_{measure}"], strict=True):
        spent = spending.curve.get(step, spent)
        if value is not None and step + spent <= budget:
            last = step, value
    return last
