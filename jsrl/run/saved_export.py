"""``jsrl export``: write the policies of a run's newest checkpoint as TorchScript and ONNX."""

from pathlib import Path

from jsrl.core.checkpoint import load_checkpoint, newest_checkpoint
from jsrl.core.conversions import show_range
from jsrl.core.errors import UserError
from jsrl.networks.deployment import Deployment
from jsrl.networks.export import UNITS, export_policy
from jsrl.run.saved import saved_environment, saved_policy


def export_run(run: Path, output: Path | None, units: str = "environment") -> list[str]:
    """Write every seed's exploration-policy as TorchScript and ONNX.

    Args:
        run: the run directory.
        output: a folder; None for ``export`` in the run.
        units: of the actions: ``environment`` for what its ``step`` takes, ``normalised`` for
            [-1, 1].

    Returns:
        A line for each file: how far its actions are from the policy's.
    """
    if units not in UNITS:
        raise UserError(f"units={units!r} is unknown; choose one of {', '.join(UNITS)}")
    state = load_checkpoint(newest_checkpoint(run))
    policy = saved_policy(run, state, "exploration")
    environment = saved_environment(run, state)
    actions = Deployment.of(environment).actions if units == "environment" else None
    folder = output or run / "export"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"output={str(folder)!r} cannot be made: {error.strerror}") from error
    lines = []
    for index, seed in enumerate(state["seeds"]):
        stem = folder / f"exploration_seed{seed}"
        about = {"seed": seed, "environment": environment, "layout": environment["layout"]}
        written = export_policy(policy, index, stem, about, actions)
        for kind in ("torchscript", "onnx"):
            difference = written["max_error"][kind]
            lines.append(f"{written[kind]}: actions equal the policy's to {difference:.1e}")
    if actions is not None:
        shown = show_range(actions.low, actions.high)
        lines.append(f"actions are in {shown}, the units of {environment.get('id')}")
    else:
        lines.append("actions are in [-1, 1] (units=normalised)")
    return lines
