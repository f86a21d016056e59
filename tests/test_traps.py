"""The ten traps seen in public code of the method, one test each, in their order.

What a trap needs at full length is tested with its part (collector, curricula, IQL, guides,
resume); here stands the shortest proof that the trap is not stepped into.
"""

import io
import math
from dataclasses import replace

import fakes
import numpy as np
import pytest
import torch
from fakes import CountingEnv, FakeGuide, FakePolicy, FixedSteps

from jsrl.core.errors import UserError
from jsrl.core.protocols import Consumes, Phase
from jsrl.core.streams import Streams
from jsrl.core.transitions import Batch, TransitionLayout
from jsrl.envs.make import Environments, EnvSettings, describe_env
from jsrl.guides import GuideView, NetworkGuide
from jsrl.guides.base import ForeignGuide
from jsrl.jumpstart.curricula import JumpStartCurriculum, RandomCurriculum, stage_steps
from jsrl.learners.custom import CustomOptions
from jsrl.learners.iql import IQL, IQLOptions
from jsrl.learners.losses import bootstrapped_target
from jsrl.learners.options import LearnerInputs
from jsrl.rollout.collector import Collector
from jsrl.rollout.evaluator import Evaluator, evaluate_modes, guide_steps_of_episodes
from jsrl.rollout.online import OnlineRunner
from jsrl.rollout.replay import OfflineBuffer, OnlineBuffer, Replay
from jsrl.run.build import build_learner
from jsrl.settings.schema import ActivationConfig

CPU = torch.device("cpu")
OBS, ACT = fakes.OBSERVATION_SIZE, fakes.ACTION_SIZE
LAYOUT = TransitionLayout(OBS, ACT)
IQL_OPTIONS = IQLOptions(hidden=[8], batch_size=16, dropout=0.1)


def counting(**kwargs):
    return EnvSettings(fakes.COUNTING, kwargs)


def make_collector(streams, num_envs=1, **kwargs):
    settings = counting(**kwargs)
    environments = Environments(settings, len(streams) * num_envs)
    return Collector(
        environments, describe_env(settings), num_envs, streams.child("collector"), CPU
    )


def make_evaluator(streams, num_envs=2, **kwargs):
    settings = counting(**kwargs)
    environments = Environments(settings, len(streams) * num_envs)
    return Evaluator(environments, describe_env(settings), streams.child("evaluator"), CPU)


def collect(collector, steps, policy, guide, curricula):
    return torch.stack(
        [torch.from_numpy(collector.step(policy, guide, curricula)[0].copy()) for _ in range(steps)]
    )


@pytest.mark.parametrize("h", [0, 1, 4, 5, 6])
def test_trap_1_no_guide_call_at_h_zero_and_exactly_h_guide_steps_otherwise(h):
    guide = FakeGuide()
    collector = make_collector(Streams([0]), lengths=(5,))
    rows = collect(collector, 10, FakePolicy(), guide, [FixedSteps(h)])
    assert rows[:, 0, 0, LAYOUT.by_guide].tolist() == [float(t < h) for t in range(5)] * 2
    assert len(guide.calls) == 2 * min(h, 5)


def test_trap_2_evaluation_moves_neither_the_training_clocks_nor_its_draws():
    collected = []
    for evaluates in (False, True):
        streams, policy, guide = Streams([0, 1]), FakePolicy(), FakeGuide(noise=0.2)
        collector = make_collector(streams, 2, lengths=(2, 3, 7))
        evaluator = make_evaluator(streams, lengths=(2, 3, 7))
        curricula, rows = [RandomCurriculum((4, 2, 0))] * 2, []
        for step in range(30):
            rows.append(collect(collector, 1, policy, guide, curricula))
            if evaluates and step % 4 == 0:
                modes = ("guide", "combined", "exploration")
                h = guide_steps_of_episodes(curricula, streams, 3, step)
                evaluate_modes(evaluator, modes, policy, guide, h, step)
        collected.append(torch.cat(rows))
    assert torch.equal(collected[0], collected[1])
    # And the clocks are each environment's own: column 1 of the observation is the true one.
    by_guide = collected[0][..., LAYOUT.by_guide]
    assert 0 < by_guide.mean() < 1


def test_trap_3_evaluation_has_environments_of_its_own():
    streams = Streams([0])
    CountingEnv.made.clear()
    collector = make_collector(streams, 2)
    collect(collector, 3, FakePolicy(), None, [FixedSteps(0)])
    training = [env for env in CountingEnv.made if env.reset_seeds]
    before = [(env.clock, list(env.reset_seeds)) for env in training]
    evaluator = make_evaluator(streams)
    evaluator.evaluate(FakePolicy(), None, np.zeros((1, 5), np.int64), 3)
    assert len(training) == 2
    assert [(env.clock, env.reset_seeds) for env in training] == before


@pytest.mark.parametrize(("end", "bootstraps"), [("terminated", False), ("truncated", True)])
def test_trap_4_a_time_limit_bootstraps_from_the_final_observation_and_a_termination_does_not(
    end, bootstraps
):
    collector = make_collector(Streams([0]), lengths=(4,), end=end)
    rows = collect(collector, 5, FakePolicy(), None, [FixedSteps(0)])[:, 0, 0]
    last = Batch(rows[3].view(1, 1, -1), LAYOUT)
    # Of the episode that ended, at its time 4, and not of the next one.
    assert last.next_observations[0, 0, :2].tolist() == [rows[3, 0].item(), 4.0]
    value = torch.full((1, 1), 10.0)
    target = bootstrapped_target(last.rewards, last.terminated, value, 0.9)
    assert target.item() == pytest.approx(last.rewards.item() + (9.0 if bootstraps else 0.0))


def test_trap_5_the_window_restarts_the_best_stays_and_tolerance_and_nan_are_handled():
    steps = stage_steps(30, 3)
    advanced = JumpStartCurriculum(steps, window=2, best=0.4).advance(0.8, 1).advance(0.8, 2)
    assert (advanced.stage, advanced.evaluations, advanced.best) == (1, (), 0.8)
    assert advanced.advance(0.8, 3).stage == 1
    negative = JumpStartCurriculum(steps, window=1, tolerance=0.1, best=-100.0)
    assert negative.advance(-105.0, 1).stage == 1
    assert negative.advance(-115.0, 1).stage == 0
    assert JumpStartCurriculum(steps, window=1, best=-math.inf).advance(math.nan, 1).stage == 0


def test_trap_6_a_guide_keeps_its_own_observations_normaliser_and_action_scale():
    seen = []

    def act_rows(observations, seed_index, generator):
        seen.append(observations.copy())
        return np.tile(np.array([[3.0, 1.0]], np.float32), (len(observations), 1))

    settings = counting(dictionary=True)
    spec = describe_env(settings)
    view = GuideView(("clock",), mean=10.0, std=2.0, action_low=1.0, action_high=5.0)
    guide = ForeignGuide(act_rows, view, spec, 1, "own", "own")
    policy = FakePolicy()
    collector = make_collector(Streams([0]), dictionary=True)
    rows = collect(collector, 3, policy, guide, [FixedSteps(3)])
    assert [one.tolist() for one in seen] == [[[-5.0]], [[-4.5]], [[-4.0]]]
    # 3 is the middle of [1, 5], 1 its lower end.
    assert rows[..., LAYOUT.action].flatten().tolist() == [0.0, -1.0] * 3
    # The exploration-policy's observations are whole and raw.
    assert policy.calls[1][0, 0].tolist() == rows[1, 0, 0, :OBS].tolist()


def test_trap_7_the_offline_schedule_does_not_run_on_online():
    learner = IQL(IQL_OPTIONS, LearnerInputs(Streams([0]), OBS, ACT, CPU))
    learner.start_phase(Phase.OFFLINE, 3)
    streams = Streams([0])
    replay = Replay(
        LAYOUT, OfflineBuffer(np.zeros((4, LAYOUT.width), np.float32), CPU), None, 16, None, CPU
    )
    for _ in range(3):
        learner.update(replay.sample(streams), learner.draws(streams))

    def rates():
        groups = learner.state_dict()["optimiser"]["adam"]["param_groups"]
        return {group["lr"] for group in groups if group["name"] == "actor"}

    assert rates() == {0.0}
    learner.start_phase(Phase.ONLINE, 1000)
    assert rates() == {IQL_OPTIONS.learning_rate}


def test_trap_8_dropout_is_off_when_acting_and_actions_are_clipped_once():
    settings = replace(IQL_OPTIONS, dropout=0.9, tanh_mean=False)
    learner = IQL(settings, LearnerInputs(Streams([0]), OBS, ACT, CPU))
    with torch.no_grad():
        learner.policy().log_std.fill_(1.0)
    observations = torch.randn(1, 200, OBS, generator=torch.Generator().manual_seed(0))
    mean, log_std = learner.policy()(observations)
    noise = Streams([5]).normal("action_noise", (200, ACT))
    expected = (mean + log_std.exp() * noise).clamp(-1, 1).detach()
    # The whole network acts, and the sum is clipped, not its parts.
    assert torch.equal(learner.policy().act(observations, Streams([5])), expected)
    assert torch.equal(learner.policy().act(observations, None), mean.clamp(-1, 1).detach())
    assert (expected.abs() == 1).any()
    spec = describe_env(counting())
    guide = NetworkGuide.from_policy(learner.policy(), GuideView(), spec)
    everywhere = torch.ones(1, 200, dtype=torch.bool)
    assert torch.equal(guide.act(observations, None, everywhere), mean.clamp(-1, 1).detach())


def make_runner():
    streams = Streams([0, 1])
    learner = IQL(IQL_OPTIONS, LearnerInputs(streams.child("exploration"), OBS, ACT, CPU))
    learner.start_phase(Phase.ONLINE, 100)
    offline = np.random.default_rng(0).uniform(-1, 1, (20, LAYOUT.width)).astype(np.float32)
    buffer = OnlineBuffer(2, 40, LAYOUT, CPU)
    replay = Replay(LAYOUT, OfflineBuffer(offline, CPU), buffer, 16, 0.25, CPU)
    collector = make_collector(streams, 2, lengths=(2, 3, 7))
    draws = (streams.child("online"), streams.child("learner"))
    return OnlineRunner(collector, buffer, replay, learner, *draws, 2, 0.5, 6), learner


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("cut", [1, 5, 17, 30])
def test_trap_9_a_resume_restores_everything_bitwise(cut):
    guide, curricula = FakeGuide(noise=0.1), [RandomCurriculum((4, 2, 0))] * 2
    runner, learner = make_runner()
    for _ in range(cut):
        runner.step(guide, curricula)
    saved = through_a_file({"runner": runner.state_dict(), "learner": learner.state_dict()})
    resumed, other = make_runner()
    other.load_state_dict(saved["learner"])
    assert resumed.load_state_dict(saved["runner"], guide) == []
    for _ in range(20):
        expected, actual = runner.step(guide, curricula), resumed.step(guide, curricula)
        assert actual[1] == expected[1]
        assert (actual[0] is None) == (expected[0] is None)
        for name, value in (expected[0] or {}).items():
            assert torch.equal(actual[0][name], value), name
    assert resumed.updates == runner.updates > 0
    for one, two in zip(learner.networks.parameters(), other.networks.parameters(), strict=True):
        assert torch.equal(one, two)
    assert torch.equal(runner.buffer.latest(40), resumed.buffer.latest(40))


class NStepLearner:
    consumes = Consumes.N_STEP

    def __init__(self, streams, observation_size, action_size, batch_size, device):
        pass


def test_trap_10_guide_transitions_are_flagged_and_a_learner_that_cannot_use_them_is_refused():
    runner, _ = make_runner()
    guide = FakeGuide(answer=0.5)
    for _ in range(15):
        runner.step(guide, [FixedSteps(2, stage=3)] * 2)
    stored = Batch(runner.buffer.latest(30), LAYOUT)
    flagged = stored.by_guide.bool()
    assert torch.equal(flagged, stored.observations[..., 1] < 2)
    assert (stored.actions[flagged] == 0.5).all()
    assert (stored.stage == 3).all()
    config = CustomOptions(kind="custom", target=f"{__file__}:NStepLearner")
    with pytest.raises(UserError, match=r"n-step.*off-policy"):
        build_learner(config, ActivationConfig(), Streams([0]), describe_env(counting()), None, CPU)
