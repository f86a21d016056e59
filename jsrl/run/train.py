"""The composition root: the stages of a run, in order.

Dataset → offline pre-training → guide frozen and measured → critic warm-up (if asked for) →
Jump-Start RL online → final evaluation.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from jsrl.core.interrupts import StopRequest
from jsrl.run.checks import check
from jsrl.run.directory import RunDirectory
from jsrl.run.stages import (
    CriticWarmUp,
    FinalEvaluation,
    MeasuringTheGuide,
    OnlineLearning,
    PreTraining,
    Stage,
)
from jsrl.run.state import MEASURE, RunState
from jsrl.run.stored_config import with_defaults
from jsrl.settings.schema import TrainConfig


def train(config: TrainConfig, resolved: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    """Run an experiment, or resume it, in its folder.

    Args:
        config: the typed configuration.
        resolved: the same as nested plain values, as ``config.yaml`` holds them.
        directory: the run directory.

    Returns:
        The contents of ``summary.json``.

    Raises:
        UserError: for anything that the user can mend.
        Interrupted: after SIGTERM or Ctrl-C, once everything is saved.
    """
    check(config)
    # With more threads than free cores PyTorch's CPU kernels wait for one another.
    torch.set_num_threads(config.threads)
    with RunDirectory(directory, config.checkpoint.keep) as folder, StopRequest() as stop:
        saved = folder.resume(resolved, with_defaults)
        summary = folder.read_summary()
        if saved and summary and saved["clock"]["steps"] >= config.online.steps:
            print(f"{directory} holds this run, finished: nothing to do; see its summary.json")
            return summary
        if saved is None:
            folder.discard_leftovers(dataset=config.dataset.collects)
        state = RunState(config, resolved, folder, stop, saved)
        try:
            return complete(state)
        finally:
            state.close()


def complete(state: RunState) -> dict[str, Any]:
    """Go through the stages that are left; the contents of ``summary.json``."""
    stages: list[Stage] = [
        PreTraining(state),
        MeasuringTheGuide(state),
        CriticWarmUp(state),
        OnlineLearning(state),
        FinalEvaluation(state),
    ]
    for stage in stages:
        if stage.is_done:
            continue
        if state.clock.stage != stage.name:
            _enter(state, stage)
        stage.run()
    assert state.summary is not None  # The last stage has written it.
    return state.summary


def _enter(state: RunState, stage: Stage) -> None:
    """Go on to a stage, and save, so that the run is resumed in it."""
    stage.begin()
    state.recorder.end_stage()
    state.clock.stage = stage.name
    # Before the guide was measured there is nothing to lose, unless it was trained here: a run
    # that its guide stops at once leaves the folder free for the corrected command.
    if stage.name != MEASURE or state.clock.offline_updates > 0:
        state.save()
    state.leave_if_asked()
