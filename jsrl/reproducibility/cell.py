"""One cell of a sweep: an activation at a level of nondeterminism, trained and measured."""

import time
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jsrl.core.errors import UserError
from jsrl.core.locks import hold_folder
from jsrl.core.nondeterminism import LEVELS, Sources
from jsrl.loggers import Progress
from jsrl.networks.activations import activation_label, make_activation
from jsrl.reproducibility.cell_file import finished_cell, write_cell
from jsrl.reproducibility.config import ReproducibilityConfig, SupervisedConfig
from jsrl.reproducibility.measures import measure_experiment, measure_supervised
from jsrl.reproducibility.predictions import measure_replicas
from jsrl.reproducibility.supervised import SupervisedSettings, train_replicas
from jsrl.reproducibility.tasks import make_task
from jsrl.run.build import NETWORKS, network_layers
from jsrl.run.checks import check
from jsrl.run.stored_config import with_defaults
from jsrl.run.summary import versions
from jsrl.run.train import train
from jsrl.settings.schema import TrainConfig
from jsrl.statistics import mean_over_pairs

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
    if finished_cell(folder, settings, with_defaults):
        print(f"{folder} holds this cell, finished: nothing to do")
        return folder
    print(
        f"{task}/{folder.name}: {config.replicas} replicas, nondeterminism "
        f"{config.nondeterminism}; in {folder}",
        flush=True,
    )
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
    print(f"{folder.parent.name}/{folder.name}: {_said(record)}; see {folder}")
    return folder


def cell_name(config: ReproducibilityConfig) -> str:
    """The name of a cell's folder: ``smelu-beta-0.5_norm_all``."""
    described = describe_activation(config)
    label = "".join(c if c.isalnum() or c == "." else "-" for c in described["label"])
    norm = "_norm" if described["layer_norm"] else ""
    return f"{label.strip('-').replace('--', '-')}{norm}_{config.nondeterminism}"


def describe_activation(config: ReproducibilityConfig) -> dict[str, Any]:
    """The activations as plain values, and how tables name them."""
    networks = {name: network_layers(config.activation, name) for name in NETWORKS}
    if config.supervised.task is not None:
        networks = {"actor": networks["actor"]}
    labels = {name: activation_label(layers.activation) for name, layers in networks.items()}
    norms = {name: layers.layer_norm for name, layers in networks.items()}
    alike = len(set(labels.values())) == 1 and len(set(norms.values())) == 1
    parts = [f"{n} {label}{' norm' if norms[n] else ''}" for n, label in labels.items()]
    return {
        "activation": {name: layers.activation for name, layers in networks.items()},
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
    make_activation(network_layers(config.activation, "actor").activation)


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
    layers = network_layers(config.activation, "actor")
    settings = SupervisedSettings(
        tuple(chosen.hidden),
        layers.activation,
        layers.layer_norm,
        chosen.batch_size,
        chosen.learning_rate,
        chosen.updates,
        chosen.churn_updates,
        chosen.initialisation,
    )
    sources = Sources(list(range(config.replicas)), config.nondeterminism)
    torch.set_num_threads(config.threads)
    with hold_folder(folder, "another sweep", "another run_dir"):
        progress = Progress(chosen.updates, folder.name, config.logger.progress)
        trained = train_replicas(task, settings, sources, config.replicas, progress.update)
        progress.close()
    return measure_supervised(task, trained, chosen.churn_updates)


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
    print(f"{folder.name}: measuring how far the replicas differ", flush=True)
    measured = measure_replicas(own, config.measure, folder)
    return measure_experiment(own, measured) | {"dataset": summary["dataset"]}


def _said(record: Mapping[str, Any]) -> str:
    """A line of what came out."""
    name, first = next(iter(record["differences"].items()))
    score, values = next(iter(record["scores"].items()), ("", {"values": []}))
    shown = f", {score} {np.mean(values['values']):.4g}" if score else ""
    return f"difference of {name} {mean_over_pairs(np.asarray(first['pairs'])):.4g}{shown}"
