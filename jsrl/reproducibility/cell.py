"""One cell of a sweep: an activation at a level of nondeterminism, trained and measured."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jsrl.activations import activation_label, make_activation
from jsrl.build import NETWORKS, network_activation
from jsrl.checks import check
from jsrl.config import TrainConfig
from jsrl.errors import UserError
from jsrl.files import lock_folder
from jsrl.loggers import Progress
from jsrl.nondeterminism import LEVELS, Sources
from jsrl.reproducibility.config import ReproducibilityConfig, SupervisedConfig
from jsrl.reproducibility.measures import of_experiment, of_supervised
from jsrl.reproducibility.predictions import measure_replicas
from jsrl.reproducibility.records import finished_cell, write_cell
from jsrl.reproducibility.supervised import SupervisedSettings, train_replicas
from jsrl.reproducibility.tasks import make_task
from jsrl.statistics import mean_over_pairs
from jsrl.summary import versions
from jsrl.train import train

CHECKPOINTS = 6
"""As many are kept: an offline run writes five at its end, and the one before them is needed."""


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
    with _alone_in(folder):
        progress = Progress(chosen.updates, folder.name, config.logger.progress)
        trained = train_replicas(task, settings, sources, config.replicas, progress.update)
        progress.close()
    return of_supervised(task, trained, chosen.churn_updates)


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
    return of_experiment(own, measured) | {"dataset": summary["dataset"]}


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder while a cell without a run of its own is made in it."""
    try:
        lock = lock_folder(folder)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written: {error.strerror}; choose another run_dir"
        ) from error
    if lock is None:
        raise UserError(f"{folder} is in use by another sweep; wait for it")
    with lock:
        yield


def _said(record: Mapping[str, Any]) -> str:
    """A line of what came out."""
    name, first = next(iter(record["differences"].items()))
    score, values = next(iter(record["scores"].items()), ("", {"values": []}))
    shown = f", {score} {np.mean(values['values']):.4g}" if score else ""
    return f"difference of {name} {mean_over_pairs(np.asarray(first['pairs'])):.4g}{shown}"
