"""The explorer's share in the tenths of an episode, against sums written out one by one."""

import numpy as np
import pytest

from jsrl.rollout.episode_shares import NAMES, EpisodeShares


def one_by_one(steps, num_seeds, time_limit):
    """Of every seed and tenth the mean of what falls in it."""
    found = [[[] for _ in range(10)] for _ in range(num_seeds)]
    for times, shares in steps:
        per_seed = len(times) // num_seeds
        for row, (time, share) in enumerate(zip(times, shares, strict=True)):
            found[row // per_seed][int(10 * time / time_limit)].append(float(share))
    return {
        name: [np.mean(own[k]) if own[k] else np.nan for own in found]
        for k, name in enumerate(NAMES)
    }


def some_steps(count, num_envs, time_limit, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield rng.integers(time_limit, size=num_envs), rng.choice([0, 0.25, 1], num_envs)


@pytest.mark.parametrize(("num_seeds", "num_envs", "limit"), [(1, 1, 7), (2, 6, 1000), (3, 3, 25)])
def test_a_step_counts_for_the_tenth_in_which_it_lies(num_seeds, num_envs, limit):
    steps = list(some_steps(2_500, num_envs, limit))
    shares = EpisodeShares(num_seeds, limit)
    for step in steps:
        shares.add(*step)
    found, expected = shares.take(), one_by_one(steps, num_seeds, limit)
    assert list(found) == list(NAMES)
    for name in NAMES:
        assert found[name] == pytest.approx(expected[name], nan_ok=True)
    assert np.isnan(list(shares.take().values())).all(), "what was taken is not taken again"


def test_a_seed_is_the_same_alone_and_it_goes_on_from_a_checkpoint():
    both, alone, later = EpisodeShares(2, 50), EpisodeShares(1, 50), EpisodeShares(2, 50)
    for index, (times, share) in enumerate(some_steps(40, 4, 50)):
        share = share / (3 + times)  # numbers whose sum depends on the order of adding
        both.add(times, share)
        alone.add(times[2:], share[2:])
        if index == 20:
            later.load_state_dict(both.state_dict())
        elif index > 20:
            later.add(times, share)
            if index % 7 == 0:
                later.load_state_dict(later.state_dict())  # saved more often
    found, again, second = (shares.take() for shares in (both, later, alone))
    assert found == again
    assert {name: values[1:] for name, values in found.items()} == second
