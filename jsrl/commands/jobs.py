"""The Hydra jobs of the shorter commands, and the guard around all of them.

The table of all commands is in ``jsrl.commands.table``.
"""

import functools
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from jsrl.commands import paths
from jsrl.commands.exits import ALARM, CRASH, fail, leave
from jsrl.core.errors import UserError
from jsrl.core.processes import ALLOWED, UNUSED_KEYS
from jsrl.settings.arguments import command_line

# Processes of a launcher unpickle a job, and so import this, before they look for its folder.
paths.register_resolver()


def guarded(work: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Make a Hydra job of a function, whose mistakes end the process with one line.

    In a multirun the exception goes on to the launcher instead, which may run in another process.
    What the function returns is the value that a sweeper searches by.
    """

    @functools.wraps(work)
    def job(config: Any) -> Any:
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode
        from omegaconf.errors import OmegaConfBaseException

        from jsrl.core.interrupts import Interrupted
        from jsrl.settings.mistakes import explain

        hydra_config = HydraConfig.get()
        name = hydra_config.job.config_name or "config"
        alone = hydra_config.mode is not RunMode.MULTIRUN
        try:
            paths.enter_folder_of_command(hydra_config.runtime.cwd)
            refuse_mistakes(config, hydra_config.overrides.task, name)
            return work(config)
        except OmegaConfBaseException as error:
            message = explain(error, name)
            if alone:
                fail(message)
            raise UserError(message) from error
        except UserError as error:
            if alone:
                fail(str(error))
            raise
        except Interrupted as error:
            # No exception but an exit, which ends a sweep and not only this job of it.
            leave(
                f"stopped by {error}; everything is saved: go on by "
                f"{command_line(_name(name), _given(alone))}",
                error.signal_number,
            )

    return job


def refuse_mistakes(config: Any, overrides: Sequence[str], name: str) -> None:
    """See that a composed configuration is complete, and that what was typed is used.

    What an experiment sets for another kind than the chosen one is left out, with a line.

    Args:
        config: of any command.
        overrides: Hydra's, as they were typed.
        name: of the primary configuration.

    Raises:
        UserError: for the first mistake.
    """
    from jsrl.settings.kind_options import refuse_unused
    from jsrl.settings.kinds import keep_own
    from jsrl.settings.mistakes import mistake

    if os.environ.get(UNUSED_KEYS) != ALLOWED:
        refuse_unused(config, overrides, name)
    chosen = {override.partition("=")[0] for override in overrides}
    for group, line in keep_own(config).items():
        # An experiment that is built on another one need not tell what it leaves out itself.
        if group in chosen:
            print(line, flush=True)
    wrong = mistake(config, name)
    if wrong is not None:
        raise UserError(wrong)


def typed(config: Any) -> Any:
    """Turn the configuration into dataclasses, and replace ``~`` in its paths."""
    from omegaconf import OmegaConf

    found: Any = OmegaConf.to_object(config)
    paths.expand_paths(found)
    return found


def on_typed(work: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Make a guarded job of a function that takes its configuration as dataclasses."""

    @functools.wraps(work)
    def job(config: Any) -> Any:
        return work(typed(config))

    return guarded(job)


@guarded
def evaluate_job(config: Any) -> None:
    """``jsrl evaluate``: print the table of a run's policies."""
    from jsrl.run.saved_evaluation import evaluate_run

    job = typed(config)
    output = None if job.output is None else Path(job.output)
    print(evaluate_run(Path(job.run), job.episodes, job.num_envs, job.key, output))


@guarded
def export_job(config: Any) -> None:
    """``jsrl export``: write the files, and print how well they agree with the policy."""
    from jsrl.run.saved_export import export_run

    job = typed(config)
    output = None if job.output is None else Path(job.output)
    print(f"exporting the exploration-policy of {job.run}", flush=True)
    for line in export_run(Path(job.run), output, job.units):
        print(line)


@guarded
def grid_job(config: Any) -> None:
    """``jsrl grid``: run what is left of a grid of experiments."""
    from hydra.core.hydra_config import HydraConfig

    from jsrl.grid.job import run_grid

    run_grid(typed(config), list(HydraConfig.get().overrides.task))


@guarded
def reproducibility_job(config: Any) -> None:
    """``jsrl reproducibility``: run one cell of its sweep."""
    from omegaconf import OmegaConf

    from jsrl.reproducibility.cell import run_cell

    OmegaConf.resolve(config)
    resolved: Any = OmegaConf.to_container(config)
    job = typed(config)
    run_cell(job, resolved, Path(job.run_dir))


@guarded
def monitor_job(config: Any) -> None:
    """``jsrl monitor``: test a policy's inputs, and end with exit status 1 on an alarm."""
    from jsrl.commands.monitor import run_monitor

    job = typed(config)
    try:
        alarm = run_monitor(job)
    except UserError:
        raise
    # Python's own exit status for it would be that of an alarm.
    except Exception:
        traceback.print_exc()
        raise SystemExit(CRASH) from None
    if alarm:
        raise SystemExit(ALARM)


@guarded
def detection_job(config: Any) -> None:
    """``jsrl detection``: try faults on a policy, and report which are noticed."""
    from hydra.core.hydra_config import HydraConfig

    from jsrl.commands.detection import run_detection

    run_detection(typed(config), list(HydraConfig.get().overrides.task))


@guarded
def attack_job(config: Any) -> None:
    """``jsrl attack``: attack a policy or a classifier, and report what it does and who notices."""
    from jsrl.commands.attack import run_attack

    run_attack(typed(config))


@guarded
def explain_job(config: Any) -> None:
    """``jsrl explain``: report which columns a policy's answers come from."""
    from jsrl.commands.explain import run_explain

    run_explain(typed(config))


@guarded
def report_job(config: Any) -> None:
    """``jsrl report``: pool runs, and print and write their tables."""
    from jsrl.report import report

    job = typed(config)
    print(f"report: reading the runs in {', '.join(job.runs)}", flush=True)
    print(report([Path(path) for path in job.runs], Path(job.output)))
    print(f"\nthe report: {Path(job.output) / 'report.md'}")


@guarded
def benchmark_job(config: Any) -> None:
    """``jsrl benchmark``: measure speed, and say where the results are."""
    from jsrl.benchmark import benchmark

    job = typed(config)
    output, behaviour = (
        None if path is None else Path(path) for path in (job.output, job.behaviour)
    )
    benchmark(
        *(job.seconds, job.memory_steps, output),
        compiled=job.compile,
        behaviour=behaviour,
        say=partial(print, flush=True),
    )
    if output is None:
        print("\nnothing is kept; output=DIR keeps it in a folder")
    else:
        print(f"\nthe report: {output / 'benchmark.md'}")


def _name(config_name: str) -> str:
    """Give the command as it is typed, from the name of its configuration."""
    return "train" if config_name == "config" else config_name.replace("dataset_", "dataset ")


def _given(alone: bool) -> Sequence[str]:
    """Give the words that followed the command.

    In a process of a launcher they are not known, and Hydra's overrides stand in for them.
    """
    from hydra.core.hydra_config import HydraConfig

    if alone or sys.argv[0].startswith("jsrl "):
        return sys.argv[1:]
    return list(HydraConfig.get().overrides.task)
