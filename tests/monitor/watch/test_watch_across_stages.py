"""A change of the curriculum's stage changes which states are seen: expected, and no alarm."""

import numpy as np
import pytest
import torch
from fakes import FixedSteps
from small_runs import REACH, composed

from jsrl.core.streams import Streams
from jsrl.envs.make import Environments, describe_env
from jsrl.guides import ForeignGuide, GuideView
from jsrl.loggers import JsonLinesLogger, Loggers, read_records
from jsrl.monitor.detectors.findings import DetectorSettings
from jsrl.monitor.detectors.rates import RateSettings
from jsrl.monitor.watch.settings import WatchSettings
from jsrl.monitor.watch.training import TrainingMonitor
from jsrl.monitor.watch.training_settings import TrainingMonitorSettings
from jsrl.networks.layers import INITIALISATIONS
from jsrl.networks.policies import GaussianPolicy
from jsrl.rollout.collector import Collector
from jsrl.run.build import env_settings

EPISODES = 200
ENVS = 5
STAGES = ((0, 20), (1, 12), (2, 6), (3, 0))
"""Stage, and steps of the guide: as the curriculum makes them fewer."""


def into_a_corner(observations, seed_index, generator):
    """The longer it acts, the further into the corner all episodes begin for the other."""
    return np.ones((len(observations), 2), np.float32)


def watched(tmp_path, stage_of, episodes_in_all=EPISODES, broken_after=None):
    """The alarms of 200 episodes of a fixed policy, with a stage that is told for each phase.

    The policy's weights are NaN from some episode on, if any.
    """
    # Short episodes: what is not the beginning of one costs time alone.
    config, _ = composed(*REACH, "env.max_episode_steps=24")
    settings = env_settings(config.env)
    spec, streams = describe_env(settings), Streams([0])
    policy = GaussianPolicy(1, spec.observation.size, spec.actions.size, (16, 16))
    policy.mlp.initialise(INITIALISATIONS["variance_scaling"], streams, "policy")
    # It hardly moves, so that where the guide has brought it is what is seen from then on.
    policy.log_std.data.fill_(-3.0)
    environments = Environments(settings, ENVS)
    collector = Collector(environments, spec, ENVS, streams.child("collector"), torch.device("cpu"))
    guide = ForeignGuide(into_a_corner, GuideView(), spec, 1, "corner", "corner")
    detector = DetectorSettings(permutations=6000, rows_per_episode=12)
    watch = WatchSettings(shared_by=2, stride=3, reference=30, detector=detector)
    monitor = TrainingMonitor(
        TrainingMonitorSettings(
            r"inputs|.*activation_\d+|outputs", 2, 1.0, 4096, 4, 5, watch, RateSettings(2, 20)
        ),
        policy,
        *([0], (ENVS, 1), streams.child("monitor"), tmp_path / "monitor"),
        spec,
    )
    collector.observer = monitor.online
    loggers, alarms, ended = Loggers(JsonLinesLogger(tmp_path / "metrics.jsonl", [0])), [], 0
    while ended < episodes_in_all:
        if ended == broken_after:
            policy.mlp.output.weight.data.fill_(torch.nan)
        stage, guide_steps = STAGES[ended * len(STAGES) // EPISODES]
        curricula = [FixedSteps(guide_steps, stage_of(stage))]
        _, _, episodes = collector.step(policy, guide, curricula)
        ended += len(episodes)
        if ended // 25 > (ended - len(episodes)) // 25:
            alarms += monitor.check(ended, loggers)
    collector.close()
    monitor.show(ended, loggers)
    return alarms, monitor


def test_two_hundred_good_episodes_across_stages_raise_no_alarm(tmp_path):
    alarms, monitor = watched(tmp_path, lambda stage: stage)
    assert alarms == []
    state = monitor.state_dict()
    watches = state["watches"]
    tested = {tuple(watch["key"]): watch["state"]["tests"] for watch in watches}
    # Every stage was tested, after its reference: its 50 episodes less 30, by three.
    assert {key[2] for key, tests in tested.items() if tests} == {0, 1, 2, 3}
    assert max(tested.values()) >= 5
    # The names that checkpoints of earlier versions have as well.
    assert set(state) == {"recording", "online", "evaluation", "episodes", "latest", "watches"}
    assert set(watches[0]["state"]) == {
        *("reference", "recent", "passed", "log_sums", "bets", "suspect", "leaving"),
        *("episodes", "tests"),
    }
    assert all(set(episode) == {"key", "rows"} for episode in state["episodes"])


def test_the_same_episodes_without_their_stages_do(tmp_path):
    alarms, _ = watched(tmp_path, lambda stage: 0, 125)
    assert alarms
    assert "in stage 0" in alarms[0]


@pytest.mark.parametrize("broken_after", [0, 50])
def test_a_policy_that_is_no_longer_finite_raises_alarms_and_stops_nothing(tmp_path, broken_after):
    alarms, _ = watched(tmp_path, lambda stage: 0, 75, broken_after)
    assert alarms and all("p = 0," in line for line in alarms)
    assert not (tmp_path / "monitor" / "embedding.png").exists()
    records = read_records(tmp_path / "metrics.jsonl")
    assert any(r.name.startswith("monitor/detection_rate/") for r in records) == (broken_after > 0)
