"""``jsrl attack``: what attacks do to a run's policies or to a classifier, and who notices."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from jsrl.commands.attack_schema import AttackJobConfig
from jsrl.core.checkpoint import load_checkpoint, newest_checkpoint
from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.protocols import HasDifferentiableValues
from jsrl.core.ranges import at_least
from jsrl.core.specs import EnvSpec
from jsrl.core.streams import Streams, checked_seed
from jsrl.envs.make import EnvSettings, describe_env
from jsrl.loggers import Progress
from jsrl.monitor.capture.layers import LayerCapture
from jsrl.monitor.capture.samples import Sample
from jsrl.monitor.studies.attack_detection import WindowSettings
from jsrl.monitor.studies.attack_goals import Values, require_differentiable
from jsrl.monitor.studies.attack_models import ModelUnderAttack, load_labelled, load_model
from jsrl.monitor.studies.attack_policy import EpisodeSettings, PolicyUnderAttack, transfer
from jsrl.monitor.studies.attack_records import NOISE, Row
from jsrl.monitor.studies.attack_report import write_attack_report
from jsrl.monitor.studies.attack_rollout import attacked_episodes
from jsrl.monitor.studies.attacks.base import LOWEST_Q
from jsrl.networks.mlp_policy import MlpPolicy
from jsrl.networks.seed_policy import SeedPolicy
from jsrl.networks.smoothing import SmoothedPolicy
from jsrl.run.build import env_settings
from jsrl.run.saved import load_policy, run_configuration
from jsrl.run.saved_evaluation import saved_learner
from jsrl.settings.schema import TrainConfig


def run_attack(job: AttackJobConfig) -> None:
    """Attack a run or a model, write the report, and print its table.

    Args:
        job: the typed configuration.

    Raises:
        UserError: if there is nothing to attack, or an option does not fit it.
    """
    job.attack.check()
    for name in ("interval", "episodes", "window", "permutations", "num_envs"):
        at_least(name, getattr(job, name), 1)
    at_least("reference", job.reference, 2)
    at_least("smoothing", job.smoothing, 0)
    at_least("smoothing_samples", job.smoothing_samples, 1)
    if (job.run is None) == (job.model is None):
        raise UserError(
            f"run={job.run} and model={job.model}: give one of them, run=DIR or "
            "model=module:factory with data=FILE"
        )
    if job.run is not None:
        _attack_run(job, Path(job.run))
    else:
        _attack_model(job)


def _attack_run(job: AttackJobConfig, run: Path) -> None:
    if job.data is not None:
        raise UserError(f"data={job.data!r} is for model=module:factory; a run acts by itself")
    config = run_configuration(run)
    if job.episodes < job.window:
        raise UserError(f"episodes={job.episodes} must be at least window={job.window}")
    seeds = config.seeds if job.seed is None else [job.seed]
    policies = [_policy(job, run, config, seed) for seed in seeds]
    if (line := policies[0].warning()) is not None:
        print(line, flush=True)
    progress = Progress(len(seeds) * _rows(job), "attacks tried")
    rows: list[Row] = []
    for policy in policies:
        for row in policy.study():
            rows.append(row)
            progress.update(len(rows))
    progress.close()
    largest = max(job.attack.epsilons)
    across = None
    if len(seeds) > 1:
        matrix = transfer(policies, job.attack.kind, largest)
        across = {"seeds": seeds, "epsilon": largest, "matrix": matrix}
    _report(job, run / "attack", rows, across)


def _policy(job: AttackJobConfig, run: Path, config: TrainConfig, seed: int) -> PolicyUnderAttack:
    """The policy of a seed, smoothed if that is asked for, with its trusted episodes."""
    env = env_settings(config.env)
    spec = describe_env(env)
    policy = require_differentiable(load_policy(run, seed))
    if job.smoothing > 0:
        policy = _smoothed(job, policy, seed, env, spec)
    return PolicyUnderAttack(
        *(policy, seed, _values(job, run, config, seed), env, spec, job.attack),
        EpisodeSettings(job.episodes, job.num_envs, job.interval, job.layers),
        WindowSettings(job.reference, job.window, job.permutations),
    )


def _values(job: AttackJobConfig, run: Path, config: TrainConfig, seed: int) -> Values | None:
    """Q of a seed's critics, with gradients; None where nobody asks, or the learner has none."""
    if job.attack.goal != LOWEST_Q:
        return None
    state = load_checkpoint(newest_checkpoint(run))
    spec = describe_env(env_settings(config.env))
    learner = saved_learner(config, state["learner"], spec, torch.device("cpu"))
    if not isinstance(learner, HasDifferentiableValues):
        return None
    place, count = state["seeds"].index(seed), len(state["seeds"])

    def values(rows: Float[Tensor, "N O"], actions: Float[Tensor, "N A"]) -> Float[Tensor, "K N"]:
        # All seeds are asked, and one is looked at: their networks are one tensor.
        observation = Observation(rows.expand(count, *rows.shape))
        return learner.differentiable_values(observation, actions.expand(count, *actions.shape))[
            place
        ]

    return values


def _smoothed(
    job: AttackJobConfig, policy: SeedPolicy, seed: int, env: EnvSettings, spec: EnvSpec
) -> SmoothedPolicy:
    """The policy with noise in units of what it sees in trusted episodes."""
    if not isinstance(policy, MlpPolicy):
        raise UserError(
            f"smoothing={job.smoothing:g} is for policies of this package, not for "
            f"{type(policy).__name__}"
        )
    capture = LayerCapture(policy, job.layers)
    streams = Streams([seed], ("attack", "smoothing"))
    played, _ = attacked_episodes(
        *(policy, capture, env, spec, streams, job.reference, job.num_envs, job.interval)
    )
    seen = Sample.concatenate(played).steps.observations
    deviation = job.smoothing * torch.from_numpy(seen).std(0)
    return SmoothedPolicy(policy, deviation, job.smoothing_samples, streams)


def _attack_model(job: AttackJobConfig) -> None:
    if job.data is None:
        raise UserError(f"model={job.model!r} needs data=FILE.npz with its inputs and labels")
    if job.smoothing > 0:
        raise UserError(f"smoothing={job.smoothing:g} is for run=DIR; a model is taken as it is")
    assert job.model is not None
    inputs, labels = load_labelled(Path(job.data))
    seed = 0 if job.seed is None else checked_seed(job.seed, "seed")
    windows = WindowSettings(job.reference, job.window, job.permutations)
    study = ModelUnderAttack(
        *(load_model(job.model), inputs, labels, job.layers, job.attack, windows, seed)
    )
    progress = Progress(_rows(job), "attacks tried")
    rows: list[Row] = []
    for row in study.study():
        rows.append(row)
        progress.update(len(rows))
    progress.close()
    _report(job, Path("attack"), rows, None)


def _rows(job: AttackJobConfig) -> int:
    """How many rows there are of each seed."""
    kinds = 1 if job.attack.kind == NOISE else 2
    return 1 + kinds * len(job.attack.epsilons)


def _report(
    job: AttackJobConfig, default: Path, rows: Sequence[Row], across: dict[str, Any] | None
) -> None:
    """Write the report, and print its table."""
    folder = default if job.output is None else Path(job.output)
    of = {
        "of": {"run": job.run, "model": job.model, "data": job.data},
        "attack": asdict(job.attack),
    }
    windows = WindowSettings(job.reference, job.window, job.permutations)
    of["smoothing"] = {"deviation": job.smoothing, "samples": job.smoothing_samples}
    print(write_attack_report(folder, rows, of, windows.level, across))
    print(f"\nthe report: {folder / 'attack.md'}")
