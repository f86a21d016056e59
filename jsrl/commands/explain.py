"""``jsrl explain``: which columns of the observation the answers of a run's policies come from."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from jsrl.commands.explain_schema import ExplainJobConfig
from jsrl.core.errors import UserError
from jsrl.core.ranges import at_least, one_of
from jsrl.core.specs import EnvSpec
from jsrl.core.streams import Streams
from jsrl.envs.make import EnvSettings, describe_env
from jsrl.loggers import Progress
from jsrl.monitor.attribution.agreement import identical_columns, require_thresholds
from jsrl.monitor.attribution.explain_report import SeedReport, write_explain_report
from jsrl.monitor.attribution.explanation import explain, require_vector
from jsrl.monitor.attribution.study import BASELINES, Question, StepsSeen, ask_with_control
from jsrl.monitor.capture.columns import column_names
from jsrl.monitor.capture.layers import LayerCapture
from jsrl.monitor.capture.samples import Sample
from jsrl.monitor.studies.attack_columns import named_columns
from jsrl.monitor.studies.attack_rollout import attacked_episodes
from jsrl.networks.seed_policy import SeedPolicy
from jsrl.run.build import env_settings
from jsrl.run.saved import load_policy, run_configuration


@dataclass(frozen=True)
class Seen:
    """A policy of one seed, and steps of its episodes."""

    seed: int
    policy: SeedPolicy
    steps: StepsSeen


def run_explain(job: ExplainJobConfig) -> None:
    """Explain the policies of a run, write the report, and print its tables.

    Args:
        job: the typed configuration.

    Raises:
        UserError: if the run or a column is not there, an option is out of range, or the method
            does not fit the policy.
    """
    job.method.check()
    for name in ("episodes", "interval", "num_envs"):
        at_least(name, getattr(job, name), 1)
    at_least("explain.controls", job.explain.controls, 0)
    one_of("explain.baseline", job.explain.baseline, BASELINES)
    require_thresholds(job.explain.mass, job.explain.high)
    run = Path(job.run)
    config = run_configuration(run)
    env = env_settings(config.env)
    spec = describe_env(env)
    layout = spec.observation.layout
    seeds = config.seeds if job.seed is None else [job.seed]
    policies = [_policy(run, seed, job) for seed in seeds]
    relevant = named_columns(list(job.explain.relevant), layout, "explain.relevant")
    progress = Progress(len(seeds), "policies explained")
    seen = [
        _seen(job, policy, seed, env, spec) for policy, seed in zip(policies, seeds, strict=True)
    ]
    # Over all seeds, so that they have the same groups.
    groups = identical_columns(torch.cat([one.steps.rows for one in seen]))
    asked = job.explain
    question = Question(
        *(job.method, groups, relevant, asked.baseline, asked.mass, asked.high),
    )
    reports: list[SeedReport] = []
    for one in seen:
        streams = Streams([one.seed], ("explain",))
        answers = ask_with_control(one.policy, one.steps, question, asked.controls, streams)
        reports.append(SeedReport(one.seed, one.steps, *answers))
        progress.update(len(reports))
    progress.close()
    folder = run / "explain" if job.output is None else Path(job.output)
    of = {"run": job.run, "method": asdict(job.method), "explain": asdict(asked)}
    print(write_explain_report(folder, reports, question, column_names(layout), of))
    print(f"\nthe report: {folder / 'explain.md'}")


def _policy(run: Path, seed: int, job: ExplainJobConfig) -> SeedPolicy:
    """The policy of a seed, if it can be explained: nobody waits for episodes in vain."""
    policy = load_policy(run, seed)
    require_vector(policy)
    if not isinstance(policy, SeedPolicy):
        raise UserError(
            f"the policy's class {type(policy).__name__} is no SeedPolicy, so that nothing is "
            "known of its layers; jsrl.explain(module, rows) takes a plain module"
        )
    explain(policy, torch.zeros(1, policy.observation_size), job.method)
    return policy


def _seen(
    job: ExplainJobConfig, policy: SeedPolicy, seed: int, env: EnvSettings, spec: EnvSpec
) -> Seen:
    """What a policy sees in fresh episodes, which it acts in alone and without noise."""
    streams = Streams([seed], ("explain", "episodes"))
    capture = LayerCapture(policy, "inputs")
    episodes, evaluation = attacked_episodes(
        *(policy, capture, env, spec, streams, job.episodes, job.num_envs, job.interval)
    )
    whole = Sample.concatenate(episodes, renumber=True).steps
    good = _went_well(evaluation.successes[0], evaluation.returns[0])
    rows = torch.from_numpy(whole.observations)
    if not bool(rows.isfinite().all()):
        raise UserError(
            f"seed {seed} of {job.run} saw numbers that are not finite, of which nothing can be "
            "explained; mend its environment"
        )
    return Seen(seed, policy, StepsSeen(rows, whole.episode, whole.time, good[whole.episode]))


def _went_well(successes: np.ndarray, returns: np.ndarray) -> np.ndarray:
    """For each episode whether it succeeded, or had at least the median return where undefined."""
    if np.isnan(successes).any():
        better: np.ndarray = returns >= np.median(returns)
        return better
    found: np.ndarray = successes > 0
    return found
