"""Use what a run left behind: load its policies, evaluate them again, export them."""

import json
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from jsrl.build import build_curriculum, build_guide, env_settings, guide_view
from jsrl.checkpoint import load_checkpoint, newest_checkpoint
from jsrl.config import TrainConfig
from jsrl.curricula import restore_curriculum
from jsrl.envs.make import Environments, describe_env
from jsrl.errors import UserError
from jsrl.evaluate import Evaluator, evaluate_modes, guide_steps_of_episodes
from jsrl.export import export_policy
from jsrl.files import write_whole
from jsrl.guides import NetworkGuide
from jsrl.networks import GaussianPolicy, build_policy
from jsrl.seeding import Streams
from jsrl.summary import MODES, normalized_scores, summarise_evaluations
from jsrl.types import EnvSpec, Guide, resolve_device


def load_policy(run: str | Path, seed: int, which: str = "exploration") -> GaussianPolicy:
    """A trained policy, alone (S = 1), ready for ``policy.act(observations[1, E, O], None)``.

    Args:
        run: a run directory, or one of its checkpoints.
        seed: one of the run's seeds.
        which: ``exploration``, or the run's own ``guide``.

    Raises:
        UserError: if the run, the seed or the policy is not there.
    """
    state = load_checkpoint(newest_checkpoint(Path(run)))
    if seed not in state["seeds"]:
        raise UserError(f"{run} has no seed {seed}; it has {state['seeds']}")
    return _policy(run, state, which).select(state["seeds"].index(seed))


def evaluate_run(run: Path, episodes: int, num_envs: int, key: int, output: Path | None) -> str:
    """Evaluate guide, combined policy and exploration-policy of a run's newest checkpoint.

    Args:
        run: the run directory.
        episodes: of each seed and mode.
        num_envs: environments of each seed stepped at a time.
        key: which start states; equal keys give equal ones.
        output: where the numbers are written as JSON; None for ``evaluation.json`` in the run.

    Returns:
        A table to print.

    Raises:
        UserError: if the run is not there or not what it says.
    """
    for name, value in (("episodes", episodes), ("num_envs", num_envs)):
        if value < 1:
            raise UserError(f"{name}={value} must be at least 1")
    config = run_configuration(run)
    state = load_checkpoint(newest_checkpoint(run))
    settings = env_settings(config.env)
    spec, streams = describe_env(settings), Streams(config.seeds)
    device = resolve_device(config.device)
    guide = _guide(config, state, spec)
    curricula = [
        restore_curriculum(build_curriculum(config.curriculum, 0, 0.0), values)
        if guide is not None
        else build_curriculum(config.curriculum, 0, 0.0)
        for values in state["curricula"]
    ]
    environments = Environments(settings, len(config.seeds) * num_envs)
    evaluator = Evaluator(environments, spec, streams.child("evaluator"), device)
    try:
        results = evaluate_modes(
            evaluator,
            MODES,
            _policy(run, state, "exploration").to(device),
            guide,
            guide_steps_of_episodes(curricula, streams, episodes, key),
            key,
        )
    finally:
        evaluator.close()
    evaluations = {}
    for mode, result in results.items():
        means = result.means()
        scores = normalized_scores(means, config.env.score_metric, config.env.score_range)
        evaluations[mode] = means | {"normalized_score": scores}
    summary = summarise_evaluations(evaluations, len(config.seeds))
    report = {"seeds": config.seeds, "episodes": episodes, "key": key, "evaluation": summary}
    path = output or run / "evaluation.json"
    write_whole(path, (json.dumps(report, indent=2) + "\n").encode())
    return (
        f"{_table(summary)}\n{episodes} episodes of each of {len(config.seeds)} seeds; see {path}"
    )


def export_run(run: Path, output: Path | None) -> list[str]:
    """Write every seed's exploration-policy as TorchScript and ONNX.

    Args:
        run: the run directory.
        output: a folder; None for ``export`` in the run.

    Returns:
        A line for each file: how far its actions are from the policy's.
    """
    state = load_checkpoint(newest_checkpoint(run))
    policy = _policy(run, state, "exploration")
    folder = output or run / "export"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"output={str(folder)!r} cannot be made: {error.strerror}") from error
    lines = []
    for index, seed in enumerate(state["seeds"]):
        stem = folder / f"exploration_seed{seed}"
        written = export_policy(policy, index, stem, {"environment": state["environment"]})
        for kind in ("torchscript", "onnx"):
            difference = written["max_error"][kind]
            lines.append(f"{written[kind]}: actions equal the policy's to {difference:.1e}")
    return lines


def _policy(run: str | Path, state: dict[str, Any], which: str) -> GaussianPolicy:
    stored = state["policies"].get(which)
    if stored is None:
        raise UserError(
            f"{run} holds no {which} policy, only {sorted(state['policies']) or 'none'}; an "
            "exploration-policy is there once its online training, or a warm start, began"
        )
    return build_policy(stored["description"], stored["state"])


def run_configuration(run: Path) -> TrainConfig:
    """The configuration of a run, as its folder holds it.

    Raises:
        UserError: if the folder is no run's.
    """
    file = run / "config.yaml"
    if not file.exists():
        raise UserError(f"run={str(run)!r} is no run directory: it has no config.yaml")
    merged = OmegaConf.merge(OmegaConf.structured(TrainConfig), yaml.safe_load(file.read_text()))
    config: Any = OmegaConf.to_object(merged)
    assert isinstance(config, TrainConfig)
    return config


def _guide(config: TrainConfig, state: dict[str, Any], spec: EnvSpec) -> Guide | None:
    device = resolve_device(config.device)
    if config.guide.kind != "offline":
        return build_guide(config.guide, config.env, spec, config.seeds, device)
    stored = state["policies"]["guide"]
    policy = build_policy(stored["description"], stored["state"]).to(device)
    sample = config.guide.sample
    return NetworkGuide(policy, guide_view(config.guide), spec, sample=sample, name="guide")


def _table(summary: dict[str, Any]) -> str:
    """Mean and 95 % interval over seeds of every mode and measure that is defined."""
    lines = [f"{'policy':<12} {'measure':<18} {'mean':>9}   95 % interval"]
    for mode, measures in summary.items():
        for measure, values in measures.items():
            if values["mean"] is None:
                continue
            interval = values["ci95"]
            shown = "" if interval is None else f"{interval[0]:.4g} to {interval[1]:.4g}"
            lines.append(f"{mode:<12} {measure:<18} {values['mean']:>9.4g}   {shown}".rstrip())
    return "\n".join(lines)
