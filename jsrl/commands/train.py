"""``jsrl train`` and ``jsrl resume``: what they print, and how they end."""

import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jsrl.commands import paths
from jsrl.commands.exits import leave
from jsrl.commands.jobs import guarded, typed
from jsrl.commands.objective import objective
from jsrl.core.errors import UserError
from jsrl.settings.arguments import MULTIRUN, command_line, override


@guarded
def train_job(config: Any) -> float:
    """``jsrl train``: run an experiment, and return its objective for a sweeper."""
    from omegaconf import OmegaConf

    directory = _run_directory(config)
    OmegaConf.resolve(config)
    resolved: Any = OmegaConf.to_container(config)
    resolved["run_dir"] = str(directory)
    return run_training(typed(config), resolved, directory)


@guarded
def resume_job(config: Any) -> float:
    """``jsrl resume run=DIR``: go on with a run, and return its objective."""
    from omegaconf import OmegaConf

    from jsrl.commands.resume import check_changes, training_of

    directory = Path(config.run)
    OmegaConf.resolve(config)
    resolved: Any = OmegaConf.to_container(config)
    del resolved["run"]
    check_changes(directory, resolved)
    print(f"the paths of this run are relative to {Path.cwd()}", flush=True)
    return run_training(training_of(typed(config)), resolved, directory)


def run_training(config: Any, resolved: Mapping[str, Any], directory: Path) -> float:
    """Train, print how it ended or how to go on after a stop, and return the objective."""
    from jsrl.core.interrupts import Interrupted
    from jsrl.run.summary import final_line
    from jsrl.run.train import train

    try:
        summary = train(config, resolved, directory)
    except Interrupted as error:
        leave(
            f"stopped by {error}; everything is saved: go on by {resume_command(directory)}",
            error.signal_number,
        )
    except KeyboardInterrupt:
        # While nothing was running yet, or for the second time.
        begun = (directory / "config.yaml").exists()
        again = f"go on by {resume_command(directory)}" if begun else "nothing was begun"
        leave(f"stopped by SIGINT: {again}", signal.SIGINT)
    value = objective(summary, config.objective, config.env.success_key)
    print(final_line(summary, directory))
    return value


def resume_command(directory: Path) -> str:
    """Give what to type in this folder to go on with a run, or with the sweep that it is in."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    one = f"jsrl resume {override('run', str(directory))}"
    hydra_config = HydraConfig.get()
    if hydra_config.mode is not RunMode.MULTIRUN:
        return one
    command, given = sys.argv[0], sys.argv[1:]
    # In a process of a launcher it is the launcher's own.
    if command != "jsrl train" or not MULTIRUN & set(given):
        return f"{one}, or with the sweep by its command and run_dir={hydra_config.sweep.dir}"
    kept = [word for word in given if not word.startswith("run_dir=")]
    folder = override("run_dir", str(hydra_config.sweep.dir))
    return f"{one}, or with the sweep by {command_line('train', kept)} {folder}"


def _run_directory(config: Any) -> Path:
    """Give the run's folder: ``run_dir``, or in a multirun the subfolder of the job below it."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra_config = HydraConfig.get()
    if hydra_config.mode is RunMode.MULTIRUN:
        return paths.run_folder(f"{hydra_config.sweep.dir}/{hydra_config.sweep.subdir}")
    if not config.run_dir:
        raise UserError(f"run_dir={config.run_dir!r} names no folder; choose one")
    return paths.run_folder(str(config.run_dir))
