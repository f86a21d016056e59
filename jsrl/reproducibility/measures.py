"""From what replicas say to how far they differ: the differences and scores of a cell."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from jsrl.core.errors import UserError
from jsrl.reproducibility.predictions import Measured
from jsrl.reproducibility.supervised import Trained
from jsrl.reproducibility.tasks import SupervisedTask
from jsrl.settings.schema import TrainConfig
from jsrl.statistics import (
    action_differences,
    choice_flips,
    interval_of,
    mean_centred_means,
    mean_over_pairs,
    rank_flips,
    relative_differences,
    relative_prediction_difference,
    resampled_runs,
    return_differences,
    value_differences,
)

RANKED = 500
"""Examples whose order is compared: the pairs among them grow with their square."""

Difference = dict[str, Any]
"""``pairs`` ``[M, M]``, and ``churn``: of each replica, between its end and a checkpoint before."""


def measure_supervised(task: SupervisedTask, trained: Trained, between: int) -> dict[str, Any]:
    """The part of a record that a supervised task gives.

    Raises:
        UserError: if fewer than two replicas are finite.
    """
    alive = _require_two(trained.alive)
    predictions, earlier = trained.predictions[alive], trained.earlier[alive]
    pairs = zip(predictions, earlier, strict=True)
    found: dict[str, Difference] = {
        "held_out/prediction": {
            "pairs": relative_differences(predictions),
            "churn": [relative_prediction_difference(np.stack(both)) for both in pairs],
        }
    }
    if task.classifies:
        assert trained.choices is not None
        found["held_out/choice"] = {"pairs": choice_flips(trained.choices[alive]), "churn": None}
    else:
        found["held_out/rank"] = {"pairs": rank_flips(predictions[:, :RANKED]), "churn": None}
    low, high = interval_of(mean_centred_means(predictions, resampled_runs(len(predictions), 1000)))
    scores: dict[str, Any] = {"loss": {"values": trained.losses[alive], "better": "lower"}}
    if task.classifies:
        assert trained.choices is not None
        right = (trained.choices[alive] == task.held_out_targets).mean(1)
        scores["accuracy"] = {"values": right, "better": "higher"}
    return {
        "failed": np.flatnonzero(~trained.alive),
        "differences": found,
        "updates_between": between,
        "mean_centred": {
            "value": relative_prediction_difference(predictions, "mean_centred"),
            "interval": [low, high],
        },
        "scores": scores,
        "slice": {"distance": trained.slice_distances, "loss": trained.slice_losses},
    }


def measure_experiment(config: TrainConfig, measured: Measured) -> dict[str, Any]:
    """The part of a record that an experiment gives.

    Raises:
        UserError: if fewer than two replicas are finite.
    """
    alive = _require_two(measured.alive)
    found: dict[str, Difference] = {}
    for kind, said in measured.predictions.items():
        for name, array in said.items():
            rows, before = array[alive], measured.earlier[kind][name][alive]
            compare = _compare_actions if name == "action" else value_differences
            found[f"{kind}/{name}"] = {
                "pairs": compare(rows),
                "churn": [
                    mean_over_pairs(compare(np.stack(both)))
                    for both in zip(rows, before, strict=True)
                ],
            }
            if name == "critic":
                ranks = rank_flips(rows[:, :RANKED])
                found[f"{kind}/critic_rank"] = {"pairs": ranks, "churn": None}
    scores: dict[str, Any] = {}
    for name in ("success", "return"):
        values = np.array(measured.scores[name])[alive]
        if not np.isfinite(values).all():
            continue
        scores[name] = {"values": values, "better": "higher"}
        known = config.env.score_range if config.env.score_metric == name else None
        span = (0.0, 1.0) if name == "success" else known
        if span is not None:
            found[name] = {"pairs": return_differences(values, span), "churn": None}
    return {
        "failed": np.flatnonzero(~measured.alive),
        "differences": found,
        "updates_between": measured.updates_between,
        "scores": scores,
        "slice": None,
    }


def _compare_actions(actions: NDArray[Any]) -> NDArray[np.float64]:
    """Of real actions in their range; of choices, in how many states they differ."""
    if actions.dtype.kind == "i":
        return choice_flips(actions)
    return action_differences(actions, -1.0, 1.0)


def _require_two(alive: NDArray[np.bool_]) -> NDArray[np.bool_]:
    if alive.sum() < 2:
        raise UserError(
            f"{int((~alive).sum())} of {len(alive)} replicas ended in numbers that are not finite; "
            "at least two are needed: see learner.learning_rate, or another activation"
        )
    return alive
