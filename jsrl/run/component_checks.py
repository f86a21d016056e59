"""What can be told to be wrong with the parts of a run before anything is learnt."""

from typing import Any

import torch

from jsrl.core.arbitration import DATA, Arbiter, TrustsData
from jsrl.core.devices import resolve_device
from jsrl.core.errors import UserError
from jsrl.core.specs import EnvSpec
from jsrl.datasets.dataset import Dataset
from jsrl.guides import GuideOptions, guide_line
from jsrl.jumpstart.curricula import (
    CurriculumOptions,
    CustomOptions,
    curricula,
    curriculum_state,
    restore_curriculum,
)


def usable_device(name: str) -> torch.device:
    """The device of this name.

    Raises:
        UserError: if nothing can be put there.
    """
    try:
        device = resolve_device(name)
        torch.zeros(1, device=device)
    # PyTorch asserts that it was built for the device.
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"device={name!r} cannot be used: {str(error).splitlines()[0]}; use device=cpu"
        ) from error
    return device


def check_time_limit(options: CurriculumOptions, spec: EnvSpec) -> None:
    """Raise UserError if h is to begin beyond the time limit."""
    steps, limit = options.given_guide_steps, spec.max_episode_steps
    if steps is not None and not 0 <= steps <= limit:
        raise UserError(
            f"curriculum.initial_guide_steps={steps} must lie between 0 and the time limit "
            f"of {spec.id}, {limit} steps"
        )


def check_start(start: str, guide: GuideOptions, spec: EnvSpec) -> None:
    """Raise UserError if the guide's networks are copied, and what they say as guide is converted.

    Copied networks act in [-1, 1].
    """
    view = guide.view()
    if start != "cold" and not view.bind(spec).keeps_actions:
        raise UserError(
            f"start={start} copies the guide's networks, whose actions are converted by "
            f"guide.action_low={view.action_low} and guide.action_high={view.action_high}; "
            "leave both null, or use start=cold"
        )


def check_curriculum(options: CurriculumOptions, spec: EnvSpec) -> None:
    """Make one and put it through a checkpoint, before it is needed.

    Raises:
        UserError: if a checkpoint cannot keep it.
    """
    curriculum = curricula.build(options, spec.max_episode_steps, 0.0)
    try:
        restore_curriculum(curriculum, curriculum_state(curriculum))
    except TypeError as error:
        named = f"curriculum={options.kind}"
        if isinstance(options, CustomOptions):
            named = f"curriculum.target={options.target!r}"
        raise UserError(
            f"{named} must make a dataclass of plain values, which a checkpoint can keep: {error}"
        ) from error


def check_trust(rule: Arbiter, dataset: Dataset | None) -> None:
    """Raise UserError if a rule of who acts cannot begin with the dataset."""
    if dataset is not None and DATA in rule.needs and isinstance(rule, TrustsData):
        rule.trust(dataset.observed_episodes(), rule.fresh(1, 1))


def require_same(name: str, fingerprint: str | None, part: Any) -> None:
    """Raise UserError if a part of the run is not the one that a checkpoint was written with."""
    now = None if part is None else part.fingerprint
    if fingerprint == now:
        return
    # A version of jsrl before this one took all answers to be in [-1, 1].
    converts = name == "guide" and guide_line(part) is not None
    hint = (
        "; the units of its actions count too: earlier versions took them to be in [-1, 1] "
        "unless guide.action_low and guide.action_high said otherwise"
        if converts
        else ""
    )
    raise UserError(
        f"{name} has changed since the checkpoint was written (its hash was "
        f"{fingerprint}, is {now}); restore what it was, or choose another run_dir{hint}"
    )
