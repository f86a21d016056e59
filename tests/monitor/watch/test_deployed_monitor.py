"""A monitor around a policy that is deployed: it notices trouble, and changes no answer."""

import copy
import pickle
import sys
import threading

import numpy as np
import pytest
import torch
from monitor.episodes import COLUMNS, network, walk
from monitor.monitored import filled, gaussian, p_values, play, unchecked, wrap

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.streams import Streams
from jsrl.monitor import Monitor, Recording


@pytest.mark.parametrize("shape", [(COLUMNS,), (5, COLUMNS), (2, 3, COLUMNS)])
@pytest.mark.parametrize("interval", [1, 2])
def test_what_a_policy_answers_is_unchanged(shape, interval):
    policy = network()
    bare, monitor = network(), wrap(policy, interval=interval)
    for step in range(5):
        observations = torch.randn(shape, generator=torch.Generator().manual_seed(step))
        assert torch.equal(monitor(observations), bare(observations))
    assert not any("forward" in vars(m) or m._forward_hooks for m in policy.modules())


def test_arguments_and_answers_of_a_policys_own_act_are_passed_on():
    policy = gaussian()
    monitor = wrap(policy)
    observations = torch.randn(1, 3, COLUMNS, generator=torch.Generator().manual_seed(0))
    observed = Observation(observations)
    for streams in (lambda: None, lambda: Streams([5])):
        bare = policy.act(observed, streams())
        assert torch.equal(monitor.act(observed, streams()), bare)
        assert torch.equal(monitor.act(observed, streams=streams()), bare)
    mean, log_std = monitor(observations)
    assert torch.equal(mean, policy(observations)[0]) and torch.equal(log_std, policy.log_std)
    with pytest.raises(UserError, match="Sequential has no act"):
        wrap().act(observations)


def test_the_reference_is_collected_and_then_tests_come():
    rng = np.random.default_rng(0)
    monitor = wrap()
    assert monitor.end_episode() == []
    for count in range(4):
        assert not monitor.ready
        assert play(monitor, walk(rng)) == []
        # An episode that ends before it begins is none.
        assert monitor.end_episode() == [], count
    assert monitor.ready
    first, second = play(monitor, walk(rng)), play(monitor, walk(rng, length=11))
    # Episodes are numbered at their begin; five ended twice, in no step at all the second time.
    assert [check.step for check in (*first, *second)] == [100, 111]
    assert list(monitor.checks) == [*first, *second]
    layers = {found.layer for found in first[0].finding.layers}
    assert layers == {"inputs", "0", "1", "2", "3", "4", "outputs"}
    assert not monitor.alarm


def test_robots_end_their_episodes_each_at_its_own_time():
    # What the network says is rounded differently for three robots at once than for one: the tests
    # are of what it is told.
    rng = np.random.default_rng(0)
    together, alone = (wrap(window=1, layers="inputs") for _ in range(2))
    lengths = (4, 6, 9)
    streams = [np.concatenate([walk(rng, n) for _ in range(8)]) for n in lengths]
    began, count = [(0, robot, 0) for robot in range(3)], 0
    found = []
    for step in range(32):
        batch = np.stack([stream[step] for stream in streams])
        together(torch.from_numpy(batch))
        mask = np.array([(step + 1) % n == 0 for n in lengths])
        found += together.end_episode(mask)
        began += [(step + 1, robot, step + 1) for robot in np.flatnonzero(mask)]
        count += mask.sum()
    # The same episodes of a single robot, in the order in which they began here, as far as those
    # that began before them have ended.
    expected, waiting = [], True
    for _, robot, start in sorted(began, key=lambda entry: entry[0]):
        waiting &= start + lengths[robot] <= 32
        if waiting:
            expected += play(alone, streams[robot][start : start + lengths[robot]])
    assert [check.p_value for check in found] == [check.p_value for check in expected]
    assert len(found) == len(together.checks) >= count - 4 - 3


@pytest.mark.parametrize("seed", range(3))
def test_a_stuck_input_raises_an_alarm_within_three_episodes(seed):
    rng, policy = np.random.default_rng(seed), network(seed)
    monitor = Monitor.wrap(policy, seed=seed)
    for _ in range(60):
        play(monitor, walk(rng))
    assert monitor.ready and not monitor.checks
    alarms = []
    for _ in range(3):
        episode = walk(rng)
        # Four standard deviations out, where it never was.
        episode[:, seed] = 4.0
        alarms += [check.alarm for check in play(monitor, episode)]
    assert alarms[-1] and monitor.alarm
    worst = min(monitor.checks[-1].finding.margins, key=lambda margin: margin.p_value)
    assert worst.p_value <= monitor.checks[-1].level
    assert worst.column == seed


def test_two_hundred_good_episodes_raise_no_alarm():
    # Just enough permutations to reach 0.05 / 200, and few layers, so that it does not take long.
    rng = np.random.default_rng(0)
    monitor = Monitor.wrap(network(), layers="inputs|outputs", permutations=4200)
    for _ in range(260):
        play(monitor, walk(rng, 6))
    assert len(monitor.checks) == 200
    assert not monitor.alarm
    # They could have: the smallest p-value is below the level, and they are not all 1.
    assert all(check.finding.smallest_p <= check.level for check in list(monitor.checks)[2:])
    assert np.mean([check.p_value <= 0.5 for check in monitor.checks]) > 0.2


def test_an_input_that_is_not_finite_raises_an_alarm():
    rng = np.random.default_rng(0)
    monitor, episode = filled(rng), walk(rng)
    episode[7, 2] = np.nan
    (check,) = play(monitor, episode)
    assert check.alarm and check.p_value == 0
    assert "not finite" in check.note


def test_an_action_that_is_not_finite_raises_an_alarm_even_where_no_layer_shows_it():
    rng, policy = np.random.default_rng(0), network()
    monitor = filled(rng, policy, layers="inputs|1")
    with torch.no_grad():
        policy[4].bias[0] = torch.nan
    (check,) = play(monitor, walk(rng))
    assert check.alarm and "not finite" in check.note


def test_one_monitor_serves_several_threads(tmp_path):
    monitor, policy, wrong = wrap(reference=12, seed=1), network(), []

    def act(seed):
        rng = np.random.default_rng(seed)
        for _ in range(6):
            for observation in walk(rng, 15):
                x = torch.from_numpy(observation)
                if not torch.equal(monitor(x), policy(x)):
                    wrong.append(seed)
            monitor.end_episode()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=act, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(600)
    finally:
        sys.setswitchinterval(interval)
    assert wrong == []
    assert monitor.status.faults == {}
    assert monitor.ready and len(monitor.checks) == monitor.status.tests
    # What it kept of a pass is of one pass.
    monitor.save_reference(tmp_path / "reference")
    recording = Recording(tmp_path / "reference")
    inputs, outputs = recording.layer("inputs"), recording.layer("outputs")
    assert np.array_equal(inputs.values, inputs.steps.observations)
    answers = policy(torch.from_numpy(outputs.steps.observations)).detach()
    torch.testing.assert_close(torch.from_numpy(outputs.values), answers)


def test_a_monitor_is_copied_with_its_policy():
    rng = np.random.default_rng(0)
    monitor = filled(rng)
    for copied in (copy.deepcopy(monitor), pickle.loads(pickle.dumps(monitor))):
        assert copied.policy is not monitor.policy
        expected = p_values(copy.deepcopy(monitor), np.random.default_rng(1), 2)
        assert p_values(copied, np.random.default_rng(1), 2) == expected


@pytest.mark.parametrize("seed", [2**63, 2**70, -1, 0.5, "0"])
def test_a_seed_that_is_out_of_range_is_told_at_once(seed):
    with pytest.raises(UserError, match=r"seed=.*seeds are"):
        unchecked(Monitor.wrap)(Monitor, network(), seed=seed)


@pytest.mark.parametrize("seed", [2**63 - 1, np.int64(7), np.uint8(3), np.uint64(2**63 - 1)])
def test_every_seed_that_a_file_can_hold_is_one(seed, tmp_path):
    rng = np.random.default_rng(0)
    with unchecked(Monitor.wrap)(
        *(Monitor, network()), seed=seed, reference=2, permutations=9, record=tmp_path / "seen"
    ) as monitor:
        for _ in range(3):
            play(monitor, walk(rng, 4))
    assert monitor.status.faults == {} and monitor.status.tests == 1
    assert set(Recording(tmp_path / "seen").steps().seed.tolist()) == {int(seed)}


@pytest.mark.parametrize("robots", [2, 4])
def test_a_mask_of_another_size_is_refused(robots):
    monitor = wrap()
    monitor(torch.zeros(3, COLUMNS))
    with pytest.raises(UserError, match="mask"):
        monitor.end_episode(np.ones(robots, bool))


def test_what_cannot_be_watched_is_explained():
    with pytest.raises(UserError, match=r"interval=0 must be at least 1"):
        wrap(interval=0)
    with pytest.raises(UserError, match="'nothing' matches no layer"):
        wrap(layers="nothing")
    with pytest.raises(UserError, match=r"monitor\.level=2"):
        wrap(level=2.0)
    # As whoever calls it without type checks does.
    with pytest.raises(UserError, match=r"torch\.nn\.Module; got a function"):
        unchecked(Monitor.wrap)(Monitor, lambda observation: observation)
