"""Whatever is odd about a call or goes wrong in a test, the deployed policy answers."""

import shutil
import sys
import warnings

import numpy as np
import pytest
import torch
from monitor.episodes import COLUMNS, network, walk
from monitor.monitored import filled, play, wrap
from torch import nn


def test_a_recording_that_fails_does_not_stop_the_robot(tmp_path):
    monitor, rng = wrap(record=tmp_path / "new"), np.random.default_rng(0)
    shutil.rmtree(tmp_path / "new")
    (tmp_path / "new").touch()
    observation = torch.from_numpy(walk(rng)[0])
    with pytest.warns(RuntimeWarning, match="the recording ends here"):
        assert torch.equal(monitor(observation), network()(observation))
    assert torch.equal(monitor(observation), network()(observation))
    monitor.close()


def test_calls_that_cannot_be_looked_at_are_answered_counted_and_told_once():
    policy = network()
    monitor = wrap(policy)
    monitor(torch.zeros(3, COLUMNS))
    with pytest.warns(RuntimeWarning) as told:
        for other in (torch.ones(2, COLUMNS), torch.ones(COLUMNS), torch.ones(0, COLUMNS)):
            assert torch.equal(monitor(other), policy(other))
    (warning,) = told
    assert "called with 2 observations, before with 3; use a monitor for each" in str(
        warning.message
    )
    status = monitor.status
    assert (status.state, status.faults) == ("degraded", {"look": 3})
    assert "before with 3" in status.reason
    # It goes on with the calls that it can watch.
    for _ in range(2):
        monitor(torch.zeros(3, COLUMNS))
    monitor.end_episode()
    assert monitor.status.reference == 3
    assert monitor.status.faults == {"look": 3}


def test_a_policy_that_takes_no_tensor_is_answered_all_the_same():
    class Lists(nn.Module):
        def forward(self, numbers):
            return [2 * number for number in numbers]

    monitor = wrap(Lists())
    with pytest.warns(RuntimeWarning, match="called with a list; what can be looked at is a"):
        assert monitor([1, 2]) == [2, 4]


class Changing(nn.Module):
    """Answers other numbers of numbers, or something that is no tensor."""

    answers = torch.zeros(1, 2)

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(COLUMNS, 2)

    def forward(self, x):
        self.layer(x)
        return self.answers


@pytest.mark.parametrize(
    "answers, told",
    [
        (torch.zeros(1, 3), "numbers for each robot have changed: the action has 3, before 2"),
        ({"action": 1}, "layer outputs gave dict"),
        (torch.zeros(0), "the action has 0, before 2"),
    ],
)
def test_an_answer_that_changes_its_shape_is_passed_on(answers, told):
    policy = Changing()
    monitor, x = wrap(policy, layers="layer|outputs"), torch.zeros(1, COLUMNS)
    assert monitor(x) is policy.answers
    policy.answers = answers
    with pytest.warns(RuntimeWarning, match=told):
        assert monitor(x) is answers
    monitor.end_episode()
    assert monitor.status.faults == {"look": 1}
    assert monitor.status.reference == 1


@pytest.mark.filterwarnings("error")
def test_episodes_of_any_lengths_and_of_no_step_at_all_are_taken():
    rng, monitor = np.random.default_rng(0), wrap(reference=3, window=2)
    for length in (1, 0, 0, 30, 2, 1, 300, 0, 1, 5):
        play(monitor, walk(rng, length) if length else [])
    assert monitor.status.faults == {}
    assert (monitor.status.reference, monitor.status.tests) == (3, 4)


def test_windows_of_observations_whose_length_changes_are_answered():
    class LastOnly(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(COLUMNS, 2)

        def forward(self, window):
            return self.layer(window[..., -1, :])

    policy = LastOnly()
    monitor = wrap(policy, observation_dims=2, reference=2)
    with pytest.warns(RuntimeWarning, match="the observation has 12, before 18, inputs has 12"):
        for _ in range(4):
            for length in (3, 2, 3, 5, 3):
                window = torch.randn(length, COLUMNS, generator=torch.Generator().manual_seed(1))
                assert torch.equal(monitor(window), policy(window))
            monitor.end_episode()
    assert monitor.status.faults == {"look": 8}
    assert monitor.status.tests == 2


def test_a_fault_of_a_test_does_not_reach_the_robot(monkeypatch):
    rng = np.random.default_rng(0)
    monitor = filled(rng)

    def broken(*arguments):
        raise FloatingPointError("of the test")

    with monkeypatch.context() as patch, pytest.warns(RuntimeWarning) as told:
        patch.setattr("jsrl.monitor.watch.episode_watch.compare", broken)
        assert play(monitor, walk(rng)) == []
        assert play(monitor, walk(rng)) == []
    (warning,) = told
    assert "an episode was not tested: of the test" in str(warning.message)
    assert monitor.status.faults == {"test": 2}
    (check,) = play(monitor, walk(rng))
    assert 0 < check.p_value <= 1


def test_where_warnings_are_errors_they_do_not_stop_the_robot_either(capsys):
    monitor = wrap()
    monitor(torch.zeros(3, COLUMNS))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert monitor(torch.zeros(2, COLUMNS)).shape == (2, 2)
    assert "called with 2 observations" in capsys.readouterr().err


def test_a_module_that_takes_no_wrapper_is_passed_as_it_is():
    class Stubborn(nn.Linear):
        @property
        def forward(self):
            if sys._getframe(1).f_code.co_name == "attach":
                raise AttributeError("nobody takes my place")
            return super().forward

    policy = nn.Sequential(nn.Linear(COLUMNS, 3), Stubborn(3, 2))
    monitor, x = wrap(policy), torch.zeros(COLUMNS)
    with pytest.warns(RuntimeWarning, match="'Stubborn' object has no attribute"):
        assert torch.equal(monitor(x), policy(x))
    assert not any("forward" in vars(m) for m in policy.modules())
