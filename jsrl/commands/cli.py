"""The command ``jsrl``: it finds the command that is typed, and runs its Hydra job."""

import contextlib
import difflib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from jsrl.commands.exits import SIGNAL, fail
from jsrl.commands.table import COMMANDS, Command
from jsrl.core.errors import UserError
from jsrl.core.files import cannot_be_written
from jsrl.settings import arguments as words


def main() -> None:
    """Run the command that is typed. This is the entry point of ``jsrl``.

    The exit status is 0 where all went well, 1 on an alarm, 2 after a mistake that the user can
    mend, 3 after a fault of the monitor itself, which is no alarm, and 128 + n on signal n.
    """
    given = sys.argv[1:]
    if not given or given[0] in words.HELP:
        _print_usage()
        return
    if given[0] == "--version":
        from jsrl import __version__

        print(f"jsrl {__version__}")
        return
    command, rest = _command(given)
    try:
        # Whoever calls this in a process of theirs is where they were when it has ended.
        with contextlib.chdir(Path.cwd()):
            _run_job(command, *_arguments(command, rest))
    except UserError as error:
        fail(str(error))
    except KeyboardInterrupt:
        # While nothing was running yet, or in a sweep over processes.
        print("stopped by SIGINT: run the same command again to go on with what was saved")
        raise SystemExit(SIGNAL + signal.SIGINT) from None


def _command(given: Sequence[str]) -> tuple[Command, list[str]]:
    """Find the command, whose name has one word or two, and return it with the words after it."""
    first, second = given[0], given[1] if len(given) > 1 else ""
    for count, name in ((2, f"{first} {second}"), (1, first)):
        if name in COMMANDS:
            return COMMANDS[name], list(given[count:])
    of_two = [name.partition(" ")[2] for name in COMMANDS if name.startswith(f"{first} ")]
    if not of_two:
        firsts = list(dict.fromkeys(name.partition(" ")[0] for name in COMMANDS))
        hint = _nearest(first, firsts)
        fail(f"jsrl has no command {first!r}{hint} Commands: {', '.join(firsts)}")
    if not second or "=" in second or second.startswith("-"):
        fail(f"jsrl {first} needs to know what to do: name one of {', '.join(of_two)} after it")
    fail(f"jsrl {first} has no {second!r}{_nearest(second, of_two)} It has {', '.join(of_two)}")


def _nearest(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _arguments(command: Command, given: Sequence[str]) -> tuple[list[str], list[str]]:
    """Tell Hydra's options from its overrides, and give words without a key the key they stand for.

    Raises:
        UserError: if a word is neither.
    """
    options, rest = words.split(given)
    # A path may begin with ~, as does an override that deletes a key.
    plain = [w for w in rest if "=" not in w and not (w.startswith("~") and "/" not in w)]
    overrides = words.as_names(word for word in rest if word not in plain)
    if not plain:
        return options, overrides
    if command.name == "report":
        return options, [*overrides, f"runs=[{','.join(map(words.quoted, plain))}]"]
    raise UserError(
        f"jsrl {command.name}: {plain[-1]!r} is no key=value; write it as key=value "
        f"({command.example})"
    )


def _run_job(command: Command, options: list[str], overrides: list[str]) -> None:
    from jsrl.commands.paths import config_directory
    from jsrl.commands.schemas import register
    from jsrl.run.origin import let_import_from

    register()
    if words.HELP & set(options):
        _print_help(command, overrides)
        return
    # As with `python -m`: environments, guides and learners may be modules in the user's folder.
    let_import_from(Path.cwd())
    if command.name == "resume":
        from jsrl.commands.resume import prepare

        overrides = prepare(options, overrides, config_directory())
    sys.argv = [f"jsrl {command.name}", *options, *overrides]
    # Hydra would print a traceback of its own; with this it raises, and the message is ours.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    _call(command)


def _print_help(command: Command, overrides: list[str]) -> None:
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from jsrl.commands.help import help_text
    from jsrl.commands.paths import config_directory
    from jsrl.settings.mistakes import explain

    try:
        text = help_text(command, overrides, config_directory())
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error, command.config)) from error
    # Whoever reads, `head` say, may have seen enough.
    with contextlib.suppress(BrokenPipeError):
        print(text, flush=True)


def _call(command: Command) -> None:
    """Run the Hydra job of a command, whose words are in ``sys.argv``."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from jsrl.commands.paths import config_directory
    from jsrl.settings.mistakes import explain

    folder, name = str(config_directory()), command.config
    job = hydra.main(version_base="1.3", config_path=folder, config_name=name)
    try:
        job(command.load_function())()
    except BrokenPipeError:
        # Whoever was reading, `head` say, has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (HydraException, OmegaConfBaseException) as error:
        # Some of Hydra's are an OSError too.
        raise UserError(explain(error, command.config)) from error
    except OSError as error:
        # Hydra makes the folders of a sweep before a job begins; what a job raises is its own.
        if _from_a_job(error.__traceback__) or error.filename is None:
            raise
        raise cannot_be_written("run_dir", Path(error.filename), error) from error


def _from_a_job(frames: TracebackType | None) -> bool:
    while frames is not None:
        if frames.tb_frame.f_globals.get("__name__") == "jsrl.commands.jobs":
            return True
        frames = frames.tb_next
    return False


def _print_usage() -> None:
    print("jsrl COMMAND [key=value …]: Jump-Start Reinforcement Learning\n")
    for command in COMMANDS.values():
        print(f"  {command.name:<18} {command.example}")
    print("\njsrl COMMAND --help shows its keys, --cfg job its configuration, --multirun sweeps.")


if __name__ == "__main__":
    main()
