"""``jsrl.train``: what ``jsrl train`` does, for notebooks and programs."""

import copy
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsrl.core.errors import UserError
from jsrl.networks.deployment import DeployedPolicy

COMMAND = "config"
"""The primary configuration of ``jsrl train``."""


@dataclass(frozen=True)
class TrainedRun:
    """A finished run.

    Args:
        directory: the run directory, absolute.
        summary: what its ``summary.json`` holds.
    """

    directory: Path
    summary: dict[str, Any]

    def policy(self, seed: int | None = None, which: str = "exploration") -> DeployedPolicy:
        """A policy of the run, as ``jsrl.load_policy`` gives it.

        Args:
            seed: one of the run's seeds; None for the only one.
            which: ``exploration``, or the run's own ``guide``.

        Raises:
            UserError: if the run has no such seed or policy, or several seeds and none is named.
        """
        from jsrl.run.saved import load_policy

        seeds: list[int] = self.summary["seeds"]
        if seed is None and len(seeds) > 1:
            raise UserError(f"seed=None: the run has the seeds {seeds}; name one, as in seed=0")
        return load_policy(self.directory, seeds[0] if seed is None else seed, which)


def train(overrides: Sequence[str] = ()) -> TrainedRun:
    """Run an experiment, or resume it, as ``jsrl train`` does with the same words.

    Relative paths are relative to the working folder, which stays as it is, as do ``sys.argv``,
    PyTorch's number of threads and what other code in the process has set up with Hydra. Modules
    in the working folder can be imported from here on. While it runs in the main thread, SIGINT
    (Ctrl-C, or a notebook's stop button) and SIGTERM are taken as a request to save and stop.

    Args:
        overrides: words of the command line, such as ``["experiment=pointmaze_jsrl",
            "run_dir=runs/maze"]``; without ``run_dir`` every call begins a run of its own.

    Returns:
        The finished run.

    Raises:
        UserError: for anything that the caller can mend, in one line.
        KeyboardInterrupt: on SIGINT, once everything is saved: the same call, with ``run_dir``,
            goes on from there.
    """
    import torch

    from jsrl.core.interrupts import Interrupted
    from jsrl.run.summary import final_line
    from jsrl.run.train import train as train_in

    config, resolved, directory = _configuration(overrides)
    threads = torch.get_num_threads()
    try:
        summary = train_in(config, resolved, directory)
    except Interrupted as error:
        _stop(error.signal_number, directory)
        raise
    finally:
        torch.set_num_threads(threads)
    print(final_line(summary, directory), flush=True)
    return TrainedRun(directory.resolve(), summary)


def _configuration(overrides: Sequence[str]) -> tuple[Any, dict[str, Any], Path]:
    """The configuration, typed and as plain values, and the run's folder.

    Raises:
        UserError: for a mistake in the overrides.
    """
    from hydra import compose
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from jsrl.commands import jobs, paths
    from jsrl.run.origin import let_import_from
    from jsrl.settings.mistakes import explain

    words = _checked(overrides)
    let_import_from(Path.cwd())
    with _hydra_of_our_own():
        try:
            config = compose(COMMAND, overrides=words)
            jobs.refuse_mistakes(config, words, COMMAND)
            if not config.run_dir:
                raise UserError(f"run_dir={config.run_dir!r} names no folder; choose one")
            directory = paths.run_folder(str(config.run_dir))
            OmegaConf.resolve(config)
            resolved: Any = OmegaConf.to_container(config)
            resolved["run_dir"] = str(directory)
            return jobs.typed(config), resolved, directory
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(explain(error, COMMAND)) from error


def _checked(overrides: Sequence[str]) -> list[str]:
    """The overrides, in which a path that looks like a number stays as it was typed.

    Raises:
        UserError: if they are no list of words, or one of them is no override.
    """
    from jsrl.settings.arguments import as_names

    if isinstance(overrides, str) or not all(isinstance(word, str) for word in overrides):
        raise UserError(
            f"jsrl.train({overrides!r}): expected a list of words, as in "
            'jsrl.train(["experiment=pointmaze_jsrl", "run_dir=runs/maze"])'
        )
    for word in overrides:
        if word.startswith("-") or ("=" not in word and not word.startswith("~")):
            raise UserError(
                f"jsrl.train: {word!r} is no key=value; options of the command line, such as "
                "--multirun, are for the command alone"
            )
    return as_names(overrides)


@contextmanager
def _hydra_of_our_own() -> Iterator[None]:
    """Hydra, initialised for this package's configuration; what was set up before comes back."""
    from hydra import initialize_config_dir
    from hydra.core.config_store import ConfigStore
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.plugins import Plugins

    from jsrl.commands.paths import config_directory
    from jsrl.commands.schemas import register

    Plugins.instance()  # stores what is Hydra's own, once in a process
    state, store = GlobalHydra.instance(), ConfigStore.instance()
    before, stored = state.hydra, copy.deepcopy(store.repo)
    state.clear()
    try:
        register()
        with initialize_config_dir(str(config_directory()), version_base="1.3"):
            yield
    finally:
        state.hydra, store.repo = before, stored
        GlobalHydra.set_instance(state)


def _stop(number: int, directory: Path) -> None:
    """Do after everything is saved what the signal would have done before.

    Raises:
        KeyboardInterrupt: on SIGINT.
    """
    if number == signal.SIGINT:
        raise KeyboardInterrupt(
            f"everything is saved in {directory}: call jsrl.train with the same words and this "
            "run_dir to go on"
        ) from None
    signal.raise_signal(number)
