"""Monitors around small policies, that are quick to fill, for tests of deployed ones."""

import torch
from monitor.episodes import COLUMNS, network, walk

from jsrl.core.streams import Streams
from jsrl.monitor import Monitor
from jsrl.networks.layers import INITIALISATIONS
from jsrl.networks.policies import GaussianPolicy


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


def unchecked(method):
    """A class method below the type checks that the tests put around it."""
    function = method.__func__
    return getattr(function, "__wrapped__", function)
