"""``jsrl monitor``: hold a run's policy against the episodes that it left as a reference."""

import time
from functools import partial
from pathlib import Path
from typing import Any

from jsrl.core.errors import UserError
from jsrl.core.specs import EnvSpec
from jsrl.core.streams import Streams, checked_seed
from jsrl.envs.make import describe_env
from jsrl.monitor.capture.columns import column_names
from jsrl.monitor.capture.layers import LayerCapture
from jsrl.monitor.config import FaultConfig, MonitorJobConfig
from jsrl.monitor.page.report import write_page
from jsrl.monitor.page.violations import write_violations
from jsrl.monitor.studies.faults import Fault, with_fault
from jsrl.monitor.watch.audit import Audit
from jsrl.monitor.watch.audited_policy import AuditedPolicy, AuditSettings
from jsrl.monitor.watch.training import REFERENCE
from jsrl.run.build import env_settings, rate_settings, watch_settings
from jsrl.run.checks import check_monitor
from jsrl.run.saved import load_policy, run_configuration
from jsrl.settings.schema import TrainConfig

FRESH, TRUSTED = "fresh", "trusted"


def run_monitor(job: MonitorJobConfig) -> bool:
    """Test episodes, write ``violations.json`` and ``report.html``, and print what was found.

    With ``monitor.every`` this is repeated after so many seconds, until an alarm or a signal.

    Args:
        job: the typed configuration.

    Returns:
        Whether there was an alarm.

    Raises:
        UserError: if run, reference or data are not there or do not fit.
    """
    check_monitor(job.monitor)
    config = run_configuration(Path(job.run))
    seed = config.seeds[0] if job.seed is None else job.seed
    spec = describe_env(env_settings(config.env))
    fault = build_fault(job.fault)
    policy = build_audited_policy(job, config, seed, spec, fault)
    if job.data == TRUSTED:
        _keep_reference(job, policy, seed, fault)
        return False
    _require_reference(job)
    if policy.images_line:
        print(policy.images_line)
    output = Path(job.output) if job.output else Path(job.run) / "monitor" / "audit"
    every = job.monitor.every
    while True:
        found = policy.audit()
        if found is not None:
            of, columns = _describe(job, seed, fault), column_names(spec.observation.layout)
            write_violations(output / "violations.json", found, of, columns)
            write_page(output / "report.html", found, of, columns)
            print(_line(found, output), flush=True)
        if every is None or (found is not None and found.alarm):
            return found is not None and found.alarm
        time.sleep(every)


def build_audited_policy(
    job: MonitorJobConfig, config: TrainConfig, seed: int, spec: EnvSpec, fault: Fault | None
) -> AuditedPolicy:
    """The policy that is tested, with the episodes that are named.

    Args:
        job: the typed configuration.
        config: of the run.
        seed: whose policy it is.
        spec: of the run's environment.
        fault: what goes wrong in fresh episodes, if anything.

    Raises:
        UserError: if the run has no such seed or layer, or a number is out of range.
    """
    policy = load_policy(Path(job.run), seed)
    if job.episodes < 1 or job.num_envs < 1:
        raise UserError(f"episodes={job.episodes} and num_envs={job.num_envs} must be at least 1")
    every = job.monitor.every
    if every is not None and (every <= 0 or job.data == FRESH):
        raise UserError(
            f"monitor.every={every} repeats a look at a growing recording: it needs a number "
            "of seconds above 0 and data=FOLDER"
        )
    settings = AuditSettings(
        data=None if job.data in (FRESH, TRUSTED) else Path(job.data),
        reference=_reference(job),
        phase=job.phase,
        growing=every is not None,
        episodes=job.episodes,
        num_envs=job.num_envs,
        interval=job.monitor.interval,
        watch=watch_settings(job.monitor, shared_by=1, rolling=False),
        rates=rate_settings(job.monitor),
    )
    return AuditedPolicy(
        policy,
        LayerCapture(policy, job.monitor.layers),
        env_settings(config.env),
        spec,
        Streams([seed], ("monitor", checked_seed(job.key, "key"))),
        settings,
        None if fault is None else partial(with_fault, fault=fault),
    )


def build_fault(config: FaultConfig) -> Fault | None:
    """The fault to try, or None."""
    if config.kind is None:
        return None
    return Fault(config.kind, tuple(config.columns), config.strength, config.seed)


def _keep_reference(
    job: MonitorJobConfig, policy: AuditedPolicy, seed: int, fault: Fault | None
) -> None:
    """Keep trusted episodes in the run, and say so."""
    if fault is not None:
        raise UserError("data=trusted makes the reference: leave out fault.kind")
    folder = Path(job.run) / "monitor" / REFERENCE
    policy.keep_reference(folder, job.monitor.trusted)
    print(f"{job.monitor.trusted} trusted episodes of seed {seed}: {folder}")


def _reference(job: MonitorJobConfig) -> Path:
    """Where the episodes are that are trusted."""
    run = Path(job.run) / "monitor" / REFERENCE
    return run if job.reference is None else Path(job.reference)


def _require_reference(job: MonitorJobConfig) -> None:
    folder = _reference(job)
    if job.reference is None and not folder.exists():
        raise UserError(
            f"run={job.run!r} has no reference ({folder} is missing): it was trained with "
            f"monitor=off; make one of trusted episodes by jsrl monitor run={job.run} data=trusted"
        )


def _describe(job: MonitorJobConfig, seed: int, fault: Fault | None) -> dict[str, Any]:
    """Whose episodes were tested, as the page says it."""
    described = None
    if fault is not None:
        described = f"{fault.kind}, columns {list(fault.columns)}, strength {fault.strength:g}"
    return {"run": str(Path(job.run)), "seed": seed, "data": job.data, "fault": described}


def _line(found: Audit, output: Path) -> str:
    first = found.first_alarm
    where = f"See {output / 'report.html'}"
    if first is None:
        return f"no alarm in {len(found.checks)} tests. {found.statement} {where}"
    alarms = [check.alarm for check in found.checks]
    cause = "" if first.finding.cause is None else f", most likely: {first.finding.cause}"
    return (
        f"ALARM in {sum(alarms)} of {len(alarms)} tests, first in test {found.first_alarm_test} "
        f"after the episode with the number {first.episode} (p = {first.p_value:.2g}, "
        f"level {first.level:.2g}){cause}; {where}"
    )
