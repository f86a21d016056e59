"""A monitor around a policy that is deployed: it notices trouble, and is not noticed itself."""

import shutil

import numpy as np
import pytest
import torch
from monitor.episodes import COLUMNS, network, sample_of, walk
from torch import nn

from jsrl.errors import UserError
from jsrl.monitor import Monitor, Recording
from jsrl.monitor.looks import MOST_LOOKS, Looks
from jsrl.networks import INITIALISATIONS, GaussianPolicy
from jsrl.seeding import Streams


def wrap(policy=None, **changes):
    """A monitor that is quick to fill: 4 episodes, of which 3 can be split off in 35 ways."""
    few = {"reference": 4, "level": 0.5, "horizon": 10, "permutations": 500}
    return Monitor.wrap(policy or network(), **(few | changes))


def play(monitor, episode):
    """One robot's episode; the tests after it."""
    for observation in episode:
        monitor(torch.from_numpy(observation))
    return monitor.end_episode()


def filled(rng, policy=None, **changes):
    monitor = wrap(policy, **changes)
    for _ in range(changes.get("reference", 4)):
        assert play(monitor, walk(rng)) == []
    assert monitor.ready
    return monitor


def p_values(monitor, rng, episodes=4):
    return [check.p_value for _ in range(episodes) for check in play(monitor, walk(rng))]


def gaussian():
    policy = GaussianPolicy(1, COLUMNS, 2, (8,))
    policy.mlp.initialise(INITIALISATIONS["pytorch"], Streams([0]), "policy")
    return policy


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
    for streams in (lambda: None, lambda: Streams([5])):
        bare = policy.act(observations, streams())
        assert torch.equal(monitor.act(observations, streams()), bare)
        assert torch.equal(monitor.act(observations, streams=streams()), bare)
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
    rng, together, alone = np.random.default_rng(0), wrap(window=1), wrap(window=1)
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


def test_every_second_step_is_looked_at_and_time_goes_on_between(tmp_path):
    rng, monitor = np.random.default_rng(0), wrap(interval=2)
    episodes = [walk(rng, 6) for _ in range(4)]
    for episode in episodes:
        play(monitor, episode)
    monitor.save_reference(tmp_path)
    rows = Recording(tmp_path).rows()
    assert rows.time.tolist() == [1, 3, 5] * 4
    assert rows.step.tolist() == list(range(2, 25, 2))
    expected = np.concatenate([episode[1::2] for episode in episodes])
    assert np.array_equal(rows.observations, expected)
    answers = network()(torch.from_numpy(expected)).detach().numpy()
    np.testing.assert_allclose(rows.actions, answers, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        Recording(tmp_path).layer("outputs").values, answers, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("ended", [True, False])
def test_what_was_looked_at_is_recorded(tmp_path, ended):
    rng, monitor = np.random.default_rng(0), wrap(interval=2, record=tmp_path / "seen", seed=7)
    episodes = rng.normal(size=(3, 2, 6, COLUMNS)).astype(np.float32)
    for number, robots in enumerate(episodes):
        for step in range(6):
            monitor(torch.from_numpy(robots[:, step]))
        if ended or number < 2:
            monitor.end_episode()
    monitor.close()
    recording = Recording(tmp_path / "seen")
    found = recording.layer("outputs", "deployed", seed=7)
    assert found.rows.time.tolist() == [1, 1, 3, 3, 5, 5] * 3
    assert found.rows.step.tolist() == [
        2,
        2,
        4,
        4,
        6,
        6,
        8,
        8,
        10,
        10,
        12,
        12,
        14,
        14,
        16,
        16,
        18,
        18,
    ]
    answers = network()(torch.from_numpy(found.rows.observations)).detach().numpy()
    np.testing.assert_allclose(found.values, answers, rtol=1e-5, atol=1e-6)
    whole = recording.episodes("deployed", 7)
    # Of the two robots the last episodes are whole only if they ended.
    assert [int(rows.episode[0]) for rows in whole] == list(range(6 if ended else 4))
    assert np.array_equal(whole[3].observations, episodes[1, 1, 1::2])


def test_of_a_long_episode_a_bounded_number_of_looks_is_kept_evenly_spread():
    looks, policy = Looks(), network()
    for count in range(1000):
        if looks.wants(3, count):
            looks.add(3, sample_of(np.full((1, COLUMNS), count, np.float32), policy))
    kept = looks.pop(3).rows.observations[:, 0]
    assert MOST_LOOKS / 2 < len(kept) <= MOST_LOOKS
    assert np.array_equal(kept, np.arange(0, 1000, 4))
    assert looks.pop(3) is None


def test_a_recording_is_not_gone_on_with(tmp_path):
    with wrap(record=tmp_path / "new") as monitor:
        play(monitor, walk(np.random.default_rng(0)))
    assert len(Recording(tmp_path / "new").episodes()) == 1
    with pytest.raises(UserError, match="is there already; choose a new folder"):
        wrap(record=tmp_path / "new")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be made: Not a directory"):
        wrap(record=tmp_path / "file" / "new")


def test_a_recording_that_fails_does_not_stop_the_robot(tmp_path):
    monitor, rng = wrap(record=tmp_path / "new"), np.random.default_rng(0)
    shutil.rmtree(tmp_path / "new")
    (tmp_path / "new").touch()
    observation = torch.from_numpy(walk(rng)[0])
    with pytest.warns(RuntimeWarning, match="the recording ends here"):
        assert torch.equal(monitor(observation), network()(observation))
    assert torch.equal(monitor(observation), network()(observation))
    monitor.close()


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


def test_a_saved_reference_serves_another_monitor_of_the_same_network(tmp_path):
    rng = np.random.default_rng(0)
    monitor = filled(rng)
    monitor.save_reference(tmp_path)
    again = wrap()
    again.load_reference(str(tmp_path))
    assert again.ready
    expected = p_values(monitor, np.random.default_rng(1))
    assert p_values(again, np.random.default_rng(1)) == expected
    assert len(expected) == 4 and len(set(expected)) > 1
    # Loaded observations pass through the network as it is, not as it was.
    other = wrap(network(1))
    other.load_reference(tmp_path)
    anew = filled(np.random.default_rng(0), network(1))
    fresh = p_values(anew, np.random.default_rng(1))
    assert p_values(other, np.random.default_rng(1)) == fresh


def test_the_reference_of_a_policy_of_the_package_can_be_loaded(tmp_path):
    def act(monitor):
        for observation in walk(rng):
            monitor.act(torch.from_numpy(observation).view(1, 1, -1), None)
        return monitor.end_episode()

    rng, monitor = np.random.default_rng(0), wrap(gaussian())
    for _ in range(4):
        assert act(monitor) == []
    monitor.save_reference(tmp_path)
    again = wrap(gaussian())
    again.load_reference(tmp_path)
    assert again.ready
    assert 0 < act(again)[0].p_value <= 1


def test_a_saved_reference_takes_the_place_of_an_earlier_one(tmp_path):
    first, second = (filled(np.random.default_rng(seed)) for seed in (0, 1))
    first.save_reference(tmp_path)
    second.save_reference(tmp_path)
    again = wrap()
    again.load_reference(tmp_path)
    expected = p_values(second, np.random.default_rng(2))
    assert p_values(again, np.random.default_rng(2)) == expected


@pytest.mark.parametrize(
    "sizes", [(COLUMNS, 8), (COLUMNS - 1, 16)], ids=["other layers", "other inputs"]
)
def test_the_reference_of_another_network_is_refused(tmp_path, sizes):
    filled(np.random.default_rng(0)).save_reference(tmp_path)
    columns, width = sizes
    other = nn.Sequential(
        *(nn.Linear(columns, 16), nn.ReLU(), nn.Linear(16, width), nn.Tanh(), nn.Linear(width, 2))
    )
    monitor = wrap(other)
    with pytest.raises(UserError, match="another network"):
        monitor.load_reference(tmp_path)
    assert not monitor.ready


def test_a_reference_that_is_not_complete_is_not_saved(tmp_path):
    rng, monitor = np.random.default_rng(0), wrap()
    for _ in range(3):
        play(monitor, walk(rng))
    with pytest.raises(UserError, match="the reference has 3 of 4 episodes"):
        monitor.save_reference(tmp_path / "reference")
    assert not (tmp_path / "reference").exists()
    with pytest.raises(UserError, match="is no recording"):
        monitor.load_reference(tmp_path)


def test_a_batch_of_another_size_is_refused():
    monitor = wrap()
    monitor(torch.zeros(3, COLUMNS))
    with pytest.raises(UserError, match="called with 2 observations, before with 3"):
        monitor(torch.zeros(2, COLUMNS))
    with pytest.raises(UserError, match="called with 1 observations, before with 3"):
        monitor(torch.zeros(COLUMNS))
    monitor(torch.zeros(3, COLUMNS))


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


def unchecked(method):
    """A class method below the type checks that the tests put around it."""
    function = method.__func__
    return getattr(function, "__wrapped__", function)
