"""The ten traps seen in public code of the method, one test each, in their order.

What a trap needs at full length is tested with its part (collector, curricula, IQL, guides,
resume); here stands the shortest proof that the trap is not stepped into.
"""

import math
from dataclasses import replace

import fakes
import numpy as np
import pytest
import torch
from fakes import CountingEnv, FakeGuide, FakePolicy, FixedSteps
from rollout.collected import assert_equal, make, run, through_a_file, together
from small_runs import different
from specs import box, vector

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.protocols import Consumes, DataNeeds, Phase
from jsrl.core.streams import Streams
from jsrl.core.transitions import TransitionData
from jsrl.envs.make import Environments, EnvSettings, describe_env
from jsrl.guides import GuideView, NetworkGuide
from jsrl.guides.base import ForeignGuide
from jsrl.jumpstart.curricula import JumpStartCurriculum, RandomCurriculum, stage_steps
from jsrl.learners.custom import CustomOptions
from jsrl.learners.iql import IQL, IQLOptions
from jsrl.learners.losses import bootstrapped_target
from jsrl.learners.options import LearnerInputs
from jsrl.rollout.evaluator import Evaluator, evaluate_modes, guide_steps_of_episodes
from jsrl.rollout.offline_store import OfflineStore
from jsrl.rollout.online import OnlineRunner
from jsrl.rollout.replay import Replay
from jsrl.rollout.transition_store import TransitionStore
from jsrl.run.build import build_learner
from jsrl.settings.schema import ActivationConfig

CPU = torch.device("cpu")
OBS, ACT = fakes.OBSERVATION_SIZE, fakes.ACTION_SIZE
OBSERVATION, ACTIONS = vector(OBS), box([-1.0] * ACT, [1.0] * ACT)
IQL_OPTIONS = IQLOptions(hidden=[8], batch_size=16, dropout=0.1)


def counting(**kwargs):
    return EnvSettings(fakes.COUNTING, kwargs)


def make_evaluator(streams, num_envs=2, **kwargs):
    settings = counting(**kwargs)
    environments = Environments(settings, len(streams) * num_envs)
    return Evaluator(environments, describe_env(settings), streams.child("evaluator"), CPU)


def collect(collector, steps, policy, guide, curricula):
    return run(collector, steps, policy, guide, curricula)[0]


def iql(streams, options=IQL_OPTIONS):
    return IQL(options, LearnerInputs(streams, OBSERVATION, ACTIONS, CPU))


def online(**sizes):
    return TransitionStore(OBSERVATION, ACTIONS, device=CPU, **sizes)


def offline(data):
    return OfflineStore(data, OBSERVATION, ACTIONS, discount=IQL_OPTIONS.discount, device=CPU)


@pytest.mark.parametrize("h", [0, 1, 4, 5, 6])
def test_trap_1_no_guide_call_at_h_zero_and_exactly_h_guide_steps_otherwise(h):
    guide = FakeGuide()
    collector = make([0], 1, counting(lengths=(5,)))
    rows = collect(collector, 10, FakePolicy(), guide, [FixedSteps(h)])
    assert rows.by_guide.flatten().tolist() == [t < h for t in range(5)] * 2
    assert len(guide.calls) == 2 * min(h, 5)


def test_trap_2_evaluation_moves_neither_the_training_clocks_nor_its_draws():
    collected = []
    for evaluates in (False, True):
        streams, policy, guide = Streams([0, 1]), FakePolicy(), FakeGuide(noise=0.2)
        collector = make([0, 1], 2, counting(lengths=(2, 3, 7)))
        evaluator = make_evaluator(streams, lengths=(2, 3, 7))
        curricula, rows = [RandomCurriculum((4, 2, 0))] * 2, []
        for step in range(30):
            rows.append(collect(collector, 1, policy, guide, curricula))
            if evaluates and step % 4 == 0:
                modes = ("guide", "combined", "exploration")
                h = guide_steps_of_episodes(curricula, streams, 3, step)
                evaluate_modes(evaluator, modes, policy, guide, h, step)
        collected.append(together(rows))
    assert_equal(*collected)
    assert 0 < collected[0].by_guide.float().mean() < 1


def test_trap_3_evaluation_has_environments_of_its_own():
    streams = Streams([0])
    CountingEnv.made.clear()
    collector = make([0], 2, counting())
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
    collector = make([0], 1, counting(lengths=(4,), end=end))
    store = online(num_seeds=1, num_envs=1, capacity=10, discount=0.9)
    starts = []
    for _ in range(5):
        moment, step, _ = collector.step(FakePolicy(), None, [FixedSteps(0)])
        starts.append(moment.observation.vector[0, 0].item())
        store.add(moment, step)
    last = store.sample(torch.tensor([[3]]))
    # Of the episode that ended, at its time 4, and not of the next one.
    assert last.next_observation.vector[0, 0, :2].tolist() == [starts[3], 4.0]
    target = bootstrapped_target(last.reward, last.discount, torch.full((1, 1), 10.0))
    assert target.item() == pytest.approx(last.reward.item() + (9.0 if bootstraps else 0.0))


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
    collector = make([0], 1, settings)
    rows = collect(collector, 3, policy, guide, [FixedSteps(3)])
    assert [one.tolist() for one in seen] == [[[-5.0]], [[-4.5]], [[-4.0]]]
    # 3 is the middle of [1, 5], 1 its lower end.
    assert rows.action.flatten().tolist() == [0.0, -1.0] * 3
    # The exploration-policy's observations are whole and raw.
    assert policy.calls[1][0, 0].tolist() == rows.seen[1, 0, 0].tolist()


def random_data(count):
    """Transitions that nothing made, the last of which ends an episode."""
    rng = np.random.default_rng(0)
    sizes = {"observations": (OBS,), "actions": (ACT,), "rewards": (), "next_observations": (OBS,)}
    floats = {n: rng.uniform(-1, 1, (count, *s)).astype(np.float32) for n, s in sizes.items()}
    ends = np.arange(count) == count - 1
    return TransitionData(**floats, terminals=ends, timeouts=np.zeros(count, bool))


def test_trap_7_the_offline_schedule_does_not_run_on_online():
    learner = iql(Streams([0]))
    learner.start_phase(Phase.OFFLINE, 3)
    streams = Streams([0])
    replay = Replay(offline(random_data(4)), None, 16, None, CPU)
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
    learner = iql(Streams([0]), settings)
    with torch.no_grad():
        learner.policy().log_std.fill_(1.0)
    vectors = torch.randn(1, 200, OBS, generator=torch.Generator().manual_seed(0))
    observations = Observation(vectors)
    mean, log_std = learner.policy()(vectors)
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
    learner = iql(streams.child("exploration"))
    learner.start_phase(Phase.ONLINE, 100)
    buffer = online(num_seeds=2, num_envs=2, capacity=40, discount=IQL_OPTIONS.discount)
    replay = Replay(offline(random_data(20)), buffer, 16, 0.25, CPU)
    collector = make([0, 1], 2, counting(lengths=(2, 3, 7)))
    draws = (streams.child("online"), streams.child("learner"))
    return OnlineRunner(collector, buffer, replay, learner, *draws, 2, 0.5, 6), learner


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
    assert different(runner.buffer.state_dict(), resumed.buffer.state_dict()) == []


class OnPolicyLearner:
    needs = DataNeeds(Consumes.ROLLOUTS, (("actor",),))

    def __init__(self, streams, observation_size, action_size, batch_size, device):
        pass


def test_trap_10_guide_transitions_are_flagged_and_a_learner_that_cannot_use_them_is_refused():
    runner, _ = make_runner()
    guide = FakeGuide(answer=0.5)
    for _ in range(15):
        runner.step(guide, [FixedSteps(2, stage=3)] * 2)
    stored = runner.buffer.sample(torch.arange(30).expand(2, -1))
    flagged = stored.by_guide.bool()
    assert torch.equal(flagged, stored.observation.vector[..., 1] < 2)
    assert 0 < flagged.float().mean() < 1
    assert (stored.action[flagged] == 0.5).all()
    assert torch.equal(stored.share, 1 - stored.by_guide)
    assert (stored.stage == 3).all()
    config = CustomOptions(kind="custom", target=f"{__file__}:OnPolicyLearner")
    with pytest.raises(UserError, match=r"whole rollouts.*off-policy"):
        build_learner(config, ActivationConfig(), Streams([0]), describe_env(counting()), None, CPU)
