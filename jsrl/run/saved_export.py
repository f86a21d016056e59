"""``jsrl export``: write the policies of a run's newest checkpoint as TorchScript and ONNX."""

from pathlib import Path
from typing import Any

from jsrl.core.checkpoint import load_checkpoint, newest_checkpoint
from jsrl.core.conversions import show_range
from jsrl.core.errors import UserError
from jsrl.networks.deployment import ChoiceUnits, Deployment
from jsrl.networks.export import UNITS, export_policy
from jsrl.run.saved import saved_environment, saved_policy

NORMALISED = f"units={UNITS[1]}"


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
    deployment = Deployment.of(environment) if _tells_actions(environment, units) else None
    actions = deployment.actions if deployment is not None and units == "environment" else None
    observation = None if deployment is None else deployment.observation
    folder = output or run / "export"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"output={str(folder)!r} cannot be made: {error.strerror}") from error
    lines = []
    for index, seed in enumerate(state["seeds"]):
        stem = folder / f"exploration_seed{seed}"
        about = {"seed": seed, "environment": environment, "layout": environment["layout"]}
        written = export_policy(policy, index, stem, about, actions, observation)
        for kind in ("torchscript", "onnx"):
            difference = written["max_error"][kind]
            lines.append(f"{written[kind]}: actions equal the policy's to {difference:.1e}")
    if isinstance(actions, ChoiceUnits):
        last = actions.start + actions.n - 1
        lines.append(f"actions are whole numbers from {actions.start} to {last}")
    elif actions is not None:
        shown = show_range(actions.low, actions.high)
        lines.append(f"actions are in {shown}, the units of {environment.get('id')}")
    elif deployment is not None and isinstance(deployment.actions, ChoiceUnits):
        lines.append(
            f"actions are whole numbers from 0 to {deployment.actions.n - 1} ({NORMALISED})"
        )
    else:
        lines.append(f"actions are in [-1, 1] ({NORMALISED})")
    return lines


def _tells_actions(environment: dict[str, Any], units: str) -> bool:
    """Whether the environment's units can be known; with units=normalised they need not be."""
    return units == "environment" or "actions" in environment
