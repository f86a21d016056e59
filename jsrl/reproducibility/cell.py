"""One cell of a sweep: an activation at a level of nondeterminism, trained and measured."""

import time
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from jsrl.activations import activation_label, make_activation
from jsrl.build import NETWORKS, network_activation
from jsrl.checks import check
from jsrl.config import TrainConfig
from jsrl.errors import UserError
from jsrl.files import lock_folder
from jsrl.loggers import Progress
from jsrl.nondeterminism import LEVELS, Sources
from jsrl.reproducibility.config import ReproducibilityConfig, SupervisedConfig
from jsrl.reproducibility.predictions import Measured, measure_replicas
from jsrl.reproducibility.records import finished_cell, write_cell
from jsrl.reproducibility.supervised import SupervisedSettings, Trained, train_replicas
from jsrl.reproducibility.tasks import SupervisedTask, make_task
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
from jsrl.summary import versions
from jsrl.train import train

CHECKPOINTS = 6
"""As many are kept: an offline run writes five at its end, and the one before them is needed."""

RANKED = 500
"""Examples whose order is compared: the pairs among them grow with their square."""

Difference = dict[str, Any]
"""``pairs`` ``[M, M]``, and ``churn``: of each replica, between its end and a checkpoint before."""


def run_cell(config: ReproducibilityConfig, resolved: Mapping[str, Any], base: Path) -> Path:
    """Train and measure one cell, or go on with it.

    Args:
        config: the typed configuration.
        resolved: the same as nested plain values.
        base: the sweep's folder; the cell is two levels below.

    Returns:
        The cell's folder.

    Raises:
        UserError: for anything that the user can mend.
        Interrupted: after SIGTERM or Ctrl-C, once a run is saved.
    """
    _check(config)
    task = config.supervised.task or config.experiment or "run"
    folder = base / task / cell_name(config)
    settings = {k: v for k, v in resolved.items() if k not in ("run_dir", "output", "logger")}
    if finished_cell(folder, settings):
        print(f"{folder} holds this cell, finished: nothing to do")
        return folder
    began = time.monotonic()
    if config.supervised.task is None:
        measured = _experiment(config, resolved, folder)
    else:
        measured = _supervised(config, folder)
    record = {
        "cell": folder.name,
        "task": task,
        **describe_activation(config),
        "level": config.nondeterminism,
        "replicas": config.replicas,
        **measured,
        "settings": settings,
        "versions": versions(),
        "wall_seconds": time.monotonic() - began,
    }
    write_cell(folder, record)
    print(f"{folder.parent.name}/{folder.name}: {_said(record)}")
    return folder


def cell_name(config: ReproducibilityConfig) -> str:
    """The name of a cell's folder: ``smelu-beta-0.5_norm_all``."""
    described = describe_activation(config)
    label = "".join(c if c.isalnum() or c == "." else "-" for c in described["label"])
    norm = "_norm" if described["layer_norm"] else ""
    return f"{label.strip('-').replace('--', '-')}{norm}_{config.nondeterminism}"


def describe_activation(config: ReproducibilityConfig) -> dict[str, Any]:
    """The activations as plain values, and how tables name them."""
    networks = {name: network_activation(config.activation, name) for name in NETWORKS}
    if config.supervised.task is not None:
        networks = {"actor": networks["actor"]}
    labels = {name: activation_label(activation) for name, (activation, _) in networks.items()}
    norms = {name: norm for name, (_, norm) in networks.items()}
    alike = len(set(labels.values())) == 1 and len(set(norms.values())) == 1
    parts = [f"{n} {label}{' norm' if norms[n] else ''}" for n, label in labels.items()]
    return {
        "activation": {name: activation for name, (activation, _) in networks.items()},
        "layer_norm": all(norms.values()),
        "label": labels["actor"] if alike else ", ".join(parts),
    }


def _check(config: ReproducibilityConfig) -> None:
    if config.replicas < 2:
        raise UserError(
            f"replicas={config.replicas} must be at least 2: a single run differs from nothing"
        )
    if config.nondeterminism not in LEVELS:
        raise UserError(
            f"nondeterminism={config.nondeterminism!r} is unknown; choose one of "
            f"{', '.join(LEVELS)}"
        )
    supervised = config.supervised
    if supervised.task is None:
        for key in ("states", "episodes", "num_envs"):
            if getattr(config.measure, key) < 1:
                raise UserError(f"measure.{key}={getattr(config.measure, key)} must be at least 1")
        return
    if config.nondeterminism == "environment":
        raise UserError(
            f"nondeterminism=environment: supervised.task={supervised.task} has no environment; "
            "choose another level"
        )
    _check_supervised(config.supervised)
    make_activation(network_activation(config.activation, "actor")[0])


def _check_supervised(config: SupervisedConfig) -> None:
    for key in ("batch_size", "updates", "churn_updates"):
        if getattr(config, key) < 1:
            raise UserError(f"supervised.{key}={getattr(config, key)} must be at least 1")
    if config.churn_updates > config.updates:
        raise UserError(
            f"supervised.churn_updates={config.churn_updates} must be at most "
            f"supervised.updates={config.updates}"
        )
    if not config.learning_rate > 0 or any(width < 1 for width in config.hidden):
        raise UserError(
            f"supervised.learning_rate={config.learning_rate} must be above 0, and "
            f"supervised.hidden={list(config.hidden)} sizes of at least 1"
        )


def _supervised(config: ReproducibilityConfig, folder: Path) -> dict[str, Any]:
    chosen = config.supervised
    assert chosen.task is not None
    task = make_task(chosen.task, chosen.seed)
    activation, layer_norm = network_activation(config.activation, "actor")
    settings = SupervisedSettings(
        tuple(chosen.hidden),
        activation,
        layer_norm,
        chosen.batch_size,
        chosen.learning_rate,
        chosen.updates,
        chosen.churn_updates,
        chosen.initialisation,
    )
    sources = Sources(list(range(config.replicas)), config.nondeterminism)
    torch.set_num_threads(config.threads)
    with _locked(folder):
        progress = Progress(chosen.updates, folder.name, config.logger.progress)
        trained = train_replicas(task, settings, sources, config.replicas, progress.update)
        progress.close()
    return _of_supervised(task, trained, chosen.churn_updates)


def _of_supervised(task: SupervisedTask, trained: Trained, between: int) -> dict[str, Any]:
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


def _experiment(
    config: ReproducibilityConfig, resolved: Mapping[str, Any], folder: Path
) -> dict[str, Any]:
    """Run the experiment with all replicas, and compare what comes out."""
    names = [f.name for f in fields(TrainConfig)]
    own: Any = TrainConfig(**{name: getattr(config, name) for name in names})
    own.seeds = list(range(config.replicas))
    own.checkpoint.keep = max(own.checkpoint.keep, CHECKPOINTS)
    check(own)
    plain = {name: resolved[name] for name in names} | {
        "seeds": own.seeds,
        "run_dir": str(folder),
        "checkpoint": {**resolved["checkpoint"], "keep": own.checkpoint.keep},
    }
    summary = train(own, plain, folder)
    measured = measure_replicas(own, config.measure, folder)
    return _of_experiment(own, measured) | {"dataset": summary["dataset"]}


def _of_experiment(config: TrainConfig, measured: Measured) -> dict[str, Any]:
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


def _compare_actions(actions: NDArray[np.float32]) -> NDArray[np.float64]:
    return action_differences(actions, -1.0, 1.0)


def _require_two(alive: NDArray[np.bool_]) -> NDArray[np.bool_]:
    if alive.sum() < 2:
        raise UserError(
            f"{int((~alive).sum())} of {len(alive)} replicas ended in numbers that are not finite; "
            "at least two are needed: see learner.learning_rate, or another activation"
        )
    return alive


class _locked:
    """Hold a folder while a cell without a run of its own is made in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        try:
            lock = lock_folder(self._folder)
        except OSError as error:
            raise UserError(
                f"{self._folder} cannot be written: {error.strerror}; choose another run_dir"
            ) from error
        if lock is None:
            raise UserError(f"{self._folder} is in use by another sweep; wait for it")
        self._lock = lock

    def __exit__(self, *_: object) -> None:
        self._lock.close()


def _said(record: Mapping[str, Any]) -> str:
    """A line of what came out."""
    name, first = next(iter(record["differences"].items()))
    score, values = next(iter(record["scores"].items()), ("", {"values": []}))
    shown = f", {score} {np.mean(values['values']):.4g}" if score else ""
    return f"difference of {name} {mean_over_pairs(np.asarray(first['pairs'])):.4g}{shown}"
