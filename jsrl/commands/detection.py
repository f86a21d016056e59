"""``jsrl detection``: try every fault on a run's policy, and report who notices it."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from jsrl.envs.make import describe_env
from jsrl.monitor.config import DetectionJobConfig
from jsrl.monitor.studies.detection import DetectionStudy, StudySettings
from jsrl.monitor.studies.power import PowerSettings
from jsrl.monitor.studies.power_report import write_power_report
from jsrl.run.build import env_settings
from jsrl.run.saved import load_policy, run_configuration
from jsrl.run.summary import versions


def run_detection(job: DetectionJobConfig, overrides: Sequence[str]) -> None:
    """Try every fault that has not been tried yet, then write the report.

    Args:
        job: the typed configuration.
        overrides: of the command line, which the report states.

    Raises:
        UserError: if the run is none, a column is not there, or the output holds another study.
    """
    output = Path(job.output)
    build_study(job, output).complete()
    kept = [o for o in overrides if not o.startswith(("output=/", "run=/"))]
    command = shlex.join(["jsrl", "detection", *kept])
    print(write_power_report(output, command))
    print(f"\nthe report: {output / 'README.md'}")


def build_study(job: DetectionJobConfig, output: Path) -> DetectionStudy:
    """The study of a run's policy.

    Args:
        job: the typed configuration.
        output: where the records go.

    Raises:
        UserError: if the run is none, a column is not there, or there are too few episodes.
    """
    config = run_configuration(Path(job.run))
    seed = config.seeds[0] if job.seed is None else job.seed
    policy = load_policy(Path(job.run), seed, job.which)
    settings = StudySettings(
        seed=seed,
        column=job.column,
        other=job.other,
        interval=job.interval,
        clean=job.clean,
        episodes=job.episodes,
        layers=job.layers,
        which=job.which,
    )
    env = env_settings(config.env)
    return DetectionStudy(
        *(policy, env, describe_env(env), settings, PowerSettings(rollouts=job.rollouts)),
        *(output, job.num_envs, versions()),
    )
