"""``jsrl evaluate``: evaluate the policies of a run's newest checkpoint again."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from jsrl.core.arbitration import GUIDE_V, LOG_PROB, ArbiterInForce, observes_share
from jsrl.core.checkpoint import load_checkpoint, newest_checkpoint
from jsrl.core.conversions import env_action_line
from jsrl.core.devices import resolve_device
from jsrl.core.errors import UserError
from jsrl.core.files import write_whole
from jsrl.core.nondeterminism import Sources
from jsrl.core.observed_share import spec_with_share
from jsrl.core.protocols import Curriculum, Guide, HearsOfEnds, Learner, Policy
from jsrl.core.specs import EnvSpec
from jsrl.core.streams import Key
from jsrl.envs.make import Environments, describe_env
from jsrl.guides import NetworkGuide, guide_lines
from jsrl.guides.network import OfflineOptions
from jsrl.jumpstart.arbiters import build_arbiter
from jsrl.jumpstart.curricula import curricula, restore_curriculum
from jsrl.loggers import Progress
from jsrl.rollout.critics import WHAT, LearnerCritics
from jsrl.rollout.evaluator import (
    FINAL_EVALUATION,
    Evaluation,
    Evaluator,
    evaluate_modes,
    guide_steps_of_episodes,
    modes_to_play,
)
from jsrl.rollout.scores import score
from jsrl.run.build import build_guide, build_learner, env_settings, guide_environment
from jsrl.run.evaluation import without_person
from jsrl.run.guide_values import guide_values
from jsrl.run.saved import run_configuration, saved_policy
from jsrl.run.start_lines import unmeasured_line
from jsrl.run.summary import MODES, summarise_evaluations
from jsrl.settings.schema import TrainConfig


def evaluate_run(
    run: Path,
    episodes: int | None = None,
    num_envs: int | None = None,
    key: int | None = None,
    output: Path | None = None,
) -> str:
    """Evaluate guide, combined policy and exploration-policy of a run's newest checkpoint.

    Left as they are, the arguments repeat the final evaluation of a finished run, episode by
    episode: the figures are those of its ``summary.json``.

    Args:
        run: the run directory.
        episodes: of each seed and mode; None for as many as the run's final evaluation has.
        num_envs: environments of each seed stepped at a time; None for the run's.
        key: which start states; equal keys give equal ones, None those of the final evaluation.
        output: where the numbers are written as JSON; None for ``evaluation.json`` in the run.

    Returns:
        A table to print.

    Raises:
        UserError: if the run is not there or not what it says.
    """
    for name, value in (("episodes", episodes), ("num_envs", num_envs)):
        if value is not None and value < 1:
            raise UserError(f"{name}={value} must be at least 1")
    config = run_configuration(run)
    asked = config.evaluation
    asked.final_episodes = asked.final_episodes if episodes is None else episodes
    asked.num_envs = asked.num_envs if num_envs is None else num_envs
    start_states: Key = FINAL_EVALUATION if key is None else key
    results, unheard = _play(run, config, start_states)
    scores = {
        mode: score(result, config.env.score_metric, config.env.score_range)
        for mode, result in results.items()
    }
    summary = summarise_evaluations(scores, len(config.seeds))
    path = output or run / "evaluation.json"
    _write(path, config, start_states, summary)
    lines = (_table(summary), _count(config, path), unheard)
    return "\n".join(line for line in lines if line is not None)


def _play(run: Path, config: TrainConfig, key: Key) -> tuple[dict[str, Evaluation], str | None]:
    """The episodes of every mode, and a line where the environment tells nothing of success."""
    state = load_checkpoint(newest_checkpoint(run))
    settings = guide_environment(config.guide, env_settings(config.env))
    spec = describe_env(settings)
    streams = Sources(config.seeds, config.nondeterminism).streams("environment")
    device = resolve_device(config.device)
    guide = _guide(run, config, state, spec) if config.guide.is_measured() else None
    _say_what_acts(spec, guide, state)
    policy = _explorer(run, config, state, spec, device)
    steps = guide_steps_of_episodes(
        _curricula(config, state, guide), streams, config.evaluation.final_episodes, key
    )
    environments = Environments(settings, len(config.seeds) * config.evaluation.num_envs)
    observes = observes_share(build_arbiter(config.arbiter))
    evaluator = Evaluator(
        environments, spec, streams.child("evaluator"), device, observes_share=observes
    )
    if (line := unmeasured_line(config.guide)) is not None:
        print(line, flush=True)
    modes = without_person(MODES, config.guide)
    arbiter = saved_arbiter(config, state, spec, device)
    total = len(modes_to_play(modes, guide, steps, arbiter)) * steps.size
    try:
        with _shown(evaluator, total, f"evaluating {run}, episode"):
            results = evaluate_modes(evaluator, modes, policy, guide, steps, key, arbiter)
        return results, evaluator.success_line()
    finally:
        evaluator.close()


@contextmanager
def _shown(evaluator: Evaluator, total: int, description: str) -> Iterator[None]:
    """Show how many of the episodes are finished."""
    progress = Progress(total, description)
    done = 0

    def told(more: int) -> None:
        nonlocal done
        done += more
        progress.update(done)

    evaluator.told = told
    try:
        yield
    finally:
        progress.close()


def _guide(run: Path, config: TrainConfig, state: dict[str, Any], spec: EnvSpec) -> Guide | None:
    """The guide of the configuration; one that was pre-trained comes from the checkpoint."""
    device = resolve_device(config.device)
    if not isinstance(config.guide, OfflineOptions):
        guide = build_guide(config.guide, config.env, spec, config.seeds, device)
        if isinstance(guide, HearsOfEnds):
            guide.load_state_dict(state["guide_state"])
        return guide
    policy = saved_policy(run, state, "guide").to(device)
    sample = config.guide.sample
    return NetworkGuide(policy, config.guide.view(), spec, sample=sample, name="guide")


def _explorer(
    run: Path, config: TrainConfig, state: dict[str, Any], spec: EnvSpec, device: torch.device
) -> Policy:
    """The exploration-policy; where it observes its share it is the learner's, and not the one
    that is deployed, which always acts alone.
    """
    saved = saved_policy(run, state, "exploration")
    if not observes_share(build_arbiter(config.arbiter)):
        return saved.to(device)
    return saved_learner(config, state["learner"], spec_with_share(spec), device).policy()


def _curricula(config: TrainConfig, state: dict[str, Any], guide: Guide | None) -> list[Curriculum]:
    """The curriculum of every seed, as far as it has come; a fresh one where nobody guides."""
    fresh = [curricula.build(config.curriculum, 0, 0.0) for _ in state["curricula"]]
    if guide is None:
        return fresh
    return [
        restore_curriculum(curriculum, values)
        for curriculum, values in zip(fresh, state["curricula"], strict=True)
    ]


def saved_arbiter(
    config: TrainConfig, state: dict[str, Any], spec: EnvSpec, device: torch.device
) -> ArbiterInForce | None:
    """The rule of who acts, as far as it has come; None where the clock decides.

    A rule that goes by values is given the learner's critics, which the checkpoint has too.
    """
    rule, saved = build_arbiter(config.arbiter), state["runner"]["collector"].get("arbiter")
    if saved is None:
        return None
    critics = own_values = None
    if rule.needs & (WHAT.keys() | {LOG_PROB, GUIDE_V}):
        explorers = spec_with_share(spec) if observes_share(rule) else spec
        learner = saved_learner(config, state["learner"], explorers, device)
        stored, pretrained = state["guide_learner"], None
        if stored is not None and rule.needs & {LOG_PROB, GUIDE_V}:
            pretrained = saved_learner(config, stored, spec, device)
        critics = LearnerCritics(learner)
        own_values = guide_values(config, rule.needs, pretrained, learner, spec, device)
    return ArbiterInForce(rule, critics, saved["seeds"], saved["step"], own_values)


def saved_learner(
    config: TrainConfig, stored: dict[str, Any], spec: EnvSpec, device: torch.device
) -> Learner:
    """A learner of the run, as the checkpoint has it."""
    streams = Sources(config.seeds, config.nondeterminism).streams("initialisation")
    learner = build_learner(config.learner, config.activation, streams, spec, None, device)
    learner.load_state_dict(stored)
    return learner


def _say_what_acts(spec: EnvSpec, guide: Guide | None, state: dict[str, Any]) -> None:
    """What is converted on the way, and whether the guide is another one than in training."""
    for line in (env_action_line(spec), *guide_lines(guide)):
        if line is not None:
            print(line, flush=True)
    if guide is not None and state.get("guide") not in (None, guide.fingerprint):
        print(
            "the guide is not what it was in training (its code, arguments or file, or the range "
            "in which it answers): what it does here may differ from what the run learnt with",
            flush=True,
        )


def _write(path: Path, config: TrainConfig, key: Key, summary: dict[str, Any]) -> None:
    """The numbers, as JSON."""
    episodes = config.evaluation.final_episodes
    report = {"seeds": config.seeds, "episodes": episodes, "key": key, "evaluation": summary}
    write_whole(path, (json.dumps(report, indent=2) + "\n").encode())


def _count(config: TrainConfig, path: Path) -> str:
    """How many episodes there were, and where their numbers are."""
    episodes, seeds = config.evaluation.final_episodes, len(config.seeds)
    of = "" if seeds == 1 else f" of each of {seeds} seeds"
    return f"{episodes} episode{'' if episodes == 1 else 's'}{of}; see {path}"


def _table(summary: dict[str, Any]) -> str:
    """Mean and 95 % interval of every mode and measure that is defined: over seeds, if several."""
    several = any(m["ci95"] is not None for mode in summary.values() for m in mode.values())
    over = "seeds" if several else "episodes"
    lines = [f"{'policy':<12} {'measure':<18} {'mean':>9}   95 % interval over {over}"]
    for mode, measures in summary.items():
        for measure, values in measures.items():
            if values["mean"] is None:
                continue
            interval = values["ci95"] if several else values["episodes_ci95"][0]
            shown = "" if interval is None else f"{interval[0]:.4g} to {interval[1]:.4g}"
            lines.append(f"{mode:<12} {measure:<18} {values['mean']:>9.4g}   {shown}".rstrip())
    return "\n".join(lines)
