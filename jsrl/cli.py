"""The command ``jsrl``: each subcommand is a Hydra job."""

import difflib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

from jsrl.errors import UserError

COMMANDS = {
    "train": "run an experiment, or resume it: jsrl train experiment=pointmaze_jsrl",
    "evaluate": "evaluate the policies of a run: jsrl evaluate run=DIR",
    "dataset": "collect offline data, or report on them: jsrl dataset antmaze guide.path=FILE",
    "export": "write a run's exploration-policy as TorchScript and ONNX: jsrl export run=DIR",
    "grid": "run a grid of experiments, or the rest of it: jsrl grid grid=pointmaze",
    "reproducibility": "how far replicas differ: jsrl reproducibility experiment=NAME",
    "monitor": "whether a policy's inputs are still good: jsrl monitor run=DIR",
    "detection": "how well a monitor notices faults: jsrl detection run=DIR column=4 other=6",
    "report": "pool seeds over runs into tables and figures: jsrl report DIR…",
    "benchmark": "measure speed on this machine: jsrl benchmark",
}

EXIT_ALARM = 1
EXIT_USER_ERROR = 2
EXIT_CRASH = 3
EXIT_SIGNAL = 128


def main() -> None:
    """Entry point.

    Exit status 0; 1 on an alarm; 2 after a mistake that the user can mend; 3 after a fault of
    the monitor itself, which is no alarm; 128 + n on signal n.
    """
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        _print_usage()
        return
    command = arguments[0]
    if command == "--version":
        from jsrl import __version__

        print(f"jsrl {__version__}")
        return
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        _fail(f"jsrl has no command {command!r}{hint} Commands: {', '.join(COMMANDS)}")
    if command == "dataset":
        family, rest = _family(arguments[1:])
        _run_job(command, f"dataset_{family}", _overrides(command, rest))
        return
    name = "config" if command == "train" else command
    _run_job(command, name, _overrides(command, arguments[1:]))


def config_directory() -> Path:
    """Where the YAML files are: inside of the installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / "configs"
    return installed if installed.exists() else package.parent / "configs"


def _overrides(command: str, arguments: Sequence[str]) -> list[str]:
    """Turn what may be given without a key into Hydra's overrides."""
    plain = [a for a in arguments if "=" not in a and not a.startswith(("-", "~"))]
    rest = [a for a in arguments if a not in plain]
    # The values of Hydra's own options follow them without a key.
    if any(a.startswith("-") for a in rest):
        options_with_value = {
            "--cfg",
            "-c",
            "--package",
            "-p",
            "--config-dir",
            "-cd",
            "--info",
            "-i",
        }
        taken = [b for a, b in pairwise(arguments) if a in options_with_value]
        plain = [a for a in plain if a not in taken]
        rest = [a for a in arguments if a not in plain]
    if not plain:
        return rest
    if command == "report":
        return [*rest, f"runs=[{','.join(_quoted(path) for path in plain)}]"]
    return _fail(
        f"jsrl {command}: {plain[-1]!r} is no key=value; write it as key=value "
        f"({COMMANDS[command]})"
    )


def _family(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The word that follows ``jsrl dataset``, and what follows it."""
    from jsrl.dataset_config import FAMILIES

    families = ", ".join(FAMILIES)
    if not arguments or "=" in arguments[0] or arguments[0].startswith("-"):
        _fail(f"jsrl dataset needs to know what to do: name one of {families} after it")
    family = arguments[0]
    if family not in FAMILIES:
        near = difflib.get_close_matches(family, FAMILIES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        _fail(f"jsrl dataset has no {family!r}{hint} It has {families}")
    return family, list(arguments[1:])


def _quoted(value: str) -> str:
    """A value that Hydra's grammar takes as one string, whatever is in it."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _run_job(command: str, name: str, overrides: list[str]) -> None:
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from jsrl import dataset_config
    from jsrl.config import register
    from jsrl.config_errors import explain
    from jsrl.reproducibility import config as reproducibility_config

    register()
    dataset_config.register()
    reproducibility_config.register()
    # As with `python -m`: environments, guides and learners may be modules in the user's folder.
    # Last, so that nothing there hides an installed package.
    sys.path.append(str(Path.cwd()))
    sys.argv = [f"jsrl {command}", *overrides]
    # Hydra would print a traceback of its own; with this it raises, and the message is ours.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    job = hydra.main(version_base="1.3", config_path=str(config_directory()), config_name=name)
    try:
        job(JOBS[command])()
    except UserError as error:
        _fail(str(error))
    except BrokenPipeError:
        # Whoever was reading, `head` say, has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        # While nothing was running yet, for the second time, or in a sweep over processes.
        print("stopped by SIGINT: run the same command again to resume from what was saved")
        raise SystemExit(EXIT_SIGNAL + signal.SIGINT) from None
    except (HydraException, OmegaConfBaseException) as error:
        _fail(explain(error, name))


def _guarded(work: Callable[[Any], None]) -> Callable[[Any], None]:
    """A job whose mistakes end the process with one line.

    In a multirun the exception goes on to the launcher instead, which may run in another process.
    """

    def job(config: Any) -> None:
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode
        from omegaconf.errors import OmegaConfBaseException

        from jsrl.config_errors import explain, mistake
        from jsrl.interrupts import Interrupted

        name = HydraConfig.get().job.config_name or "config"
        alone = HydraConfig.get().mode is not RunMode.MULTIRUN
        try:
            wrong = mistake(config, name)
            if wrong is not None:
                raise UserError(wrong)
            work(config)
        except OmegaConfBaseException as error:
            message = explain(error, name)
            if alone:
                _fail(message)
            raise UserError(message) from error
        except UserError as error:
            if alone:
                _fail(str(error))
            raise
        except Interrupted as error:
            # No exception but an exit, which ends a sweep and not only this job of it.
            _leave(error)

    return job


@_guarded
def train_job(config: Any) -> None:
    """``jsrl train``."""
    from omegaconf import OmegaConf

    from jsrl.train import train

    directory = _run_directory(config)
    OmegaConf.resolve(config)
    typed: Any = OmegaConf.to_object(config)
    resolved: Any = OmegaConf.to_container(config)
    resolved["run_dir"] = str(directory)
    summary = train(typed, resolved, directory)
    print(_final_line(summary, directory))


@_guarded
def evaluate_job(config: Any) -> None:
    """``jsrl evaluate``."""
    from jsrl.runs import evaluate_run

    print(
        evaluate_run(
            Path(config.run),
            config.episodes,
            config.num_envs,
            config.key,
            None if config.output is None else Path(config.output),
        )
    )


@_guarded
def dataset_job(config: Any) -> None:
    """``jsrl dataset FAMILY``."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from jsrl.dataset_jobs import JOBS as FAMILIES

    family = (HydraConfig.get().job.config_name or "").removeprefix("dataset_")
    FAMILIES[family](OmegaConf.to_object(config))


@_guarded
def export_job(config: Any) -> None:
    """``jsrl export``."""
    from jsrl.runs import export_run

    for line in export_run(
        Path(config.run), None if config.output is None else Path(config.output)
    ):
        print(line)


@_guarded
def grid_job(config: Any) -> None:
    """``jsrl grid``."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from jsrl.grid.job import run_grid

    typed: Any = OmegaConf.to_object(config)
    run_grid(typed, list(HydraConfig.get().overrides.task))


@_guarded
def reproducibility_job(config: Any) -> None:
    """``jsrl reproducibility``: one cell of its sweep."""
    from omegaconf import OmegaConf

    from jsrl.reproducibility.cell import run_cell

    base = Path(config.run_dir)
    OmegaConf.resolve(config)
    typed: Any = OmegaConf.to_object(config)
    resolved: Any = OmegaConf.to_container(config)
    run_cell(typed, resolved, base)


@_guarded
def monitor_job(config: Any) -> None:
    """``jsrl monitor``; exit status 1 on an alarm."""
    from omegaconf import OmegaConf

    from jsrl.monitor_job import run_monitor

    typed: Any = OmegaConf.to_object(config)
    try:
        alarm = run_monitor(typed)
    except UserError:
        raise
    # Python's own exit status for it would be that of an alarm.
    except Exception:
        traceback.print_exc()
        raise SystemExit(EXIT_CRASH) from None
    if alarm:
        raise SystemExit(EXIT_ALARM)


@_guarded
def detection_job(config: Any) -> None:
    """``jsrl detection``."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from jsrl.detection_job import run_detection

    typed: Any = OmegaConf.to_object(config)
    run_detection(typed, list(HydraConfig.get().overrides.task))


@_guarded
def report_job(config: Any) -> None:
    """``jsrl report``."""
    from jsrl.report import report

    print(report([Path(path) for path in config.runs], Path(config.output)))


@_guarded
def benchmark_job(config: Any) -> None:
    """``jsrl benchmark``."""
    from jsrl.benchmark import benchmark

    output, behaviour = (
        None if path is None else Path(path) for path in (config.output, config.behaviour)
    )
    benchmark(
        *(config.seconds, config.memory_steps, output),
        compiled=config.compile,
        behaviour=behaviour,
    )


JOBS: dict[str, Callable[[Any], None]] = {
    "train": train_job,
    "evaluate": evaluate_job,
    "dataset": dataset_job,
    "export": export_job,
    "grid": grid_job,
    "reproducibility": reproducibility_job,
    "monitor": monitor_job,
    "detection": detection_job,
    "report": report_job,
    "benchmark": benchmark_job,
}


def _run_directory(config: Any) -> Path:
    """The run's folder: ``run_dir``, or below it the subfolder of a multirun's job."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra_config = HydraConfig.get()
    if hydra_config.mode is RunMode.MULTIRUN:
        return Path(hydra_config.sweep.dir) / hydra_config.sweep.subdir
    if not config.run_dir:
        raise UserError(f"run_dir={config.run_dir!r} names no folder; choose one")
    return Path(config.run_dir)


def _final_line(summary: dict[str, Any], directory: Path) -> str:
    """Success, or where it is undefined the return, of the three policies."""
    parts = []
    for mode, measures in summary["evaluation"].items():
        for measure in ("success", "return"):
            mean = measures[measure]["mean"]
            if mean is not None:
                parts.append(f"{mode} {measure} {mean:.3g}")
                break
    return f"finished: {', '.join(parts)}; see {directory}"


def _print_usage() -> None:
    print("jsrl COMMAND [key=value …]: Jump-Start Reinforcement Learning\n")
    for name, description in COMMANDS.items():
        print(f"  {name:<16} {description}")
    print("\njsrl COMMAND --help shows its keys, --cfg job its configuration, --multirun sweeps.")


def _leave(error: Exception) -> NoReturn:
    print(f"stopped by {error}; everything is saved: run the same command again to resume")
    raise SystemExit(EXIT_SIGNAL + getattr(error, "signal_number", 0))


def _fail(message: str) -> NoReturn:
    print(f"jsrl: error: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(EXIT_USER_ERROR)


if __name__ == "__main__":
    main()
