"""Smoothing by noise: the mean of a linear policy, a vote of choices, and named draws."""

import pytest
import torch
from torch.nn import functional

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.streams import Streams
from jsrl.networks.categorical import CategoricalPolicy
from jsrl.networks.layers import INITIALISATIONS
from jsrl.networks.policies import GaussianPolicy
from jsrl.networks.smoothing import SmoothedPolicy

DEVIATION = torch.tensor([0.5, 0.0, 2.0])


def drawn(policy, seeds):
    policy.mlp.initialise(INITIALISATIONS["pytorch"], Streams(seeds), "policy")
    return policy


def smoothed(kind=GaussianPolicy, seeds=(0, 7), samples=32, **options):
    policy = drawn(kind(len(seeds), 3, 2, (), **options), list(seeds))
    return SmoothedPolicy(policy, DEVIATION, samples, Streams(list(seeds)))


def seen(seeds=(0, 7), rows=5):
    return Observation(Streams(list(seeds)).normal("rows", (rows, 3)))


def test_of_a_linear_policy_it_is_the_policy_at_the_mean_of_the_noise():
    """Without bounds in reach the mean of w·(x + σz) over z is w·(x + σ·mean z)."""
    policy = smoothed(tanh_mean=False, action_clip=100.0)
    noise = Streams([0, 7]).normal("smoothing", (32, 3)).mean(1, keepdim=True)
    expected = policy.policy.mode(Observation(seen().vector + DEVIATION * noise))
    torch.testing.assert_close(policy.act(seen(), None), expected)


def test_choices_are_put_to_the_vote():
    policy = smoothed(CategoricalPolicy)
    noise = Streams([0, 7]).normal("smoothing", (32, 3))
    votes = torch.stack(
        [
            policy.policy.mode(Observation(seen().vector + DEVIATION * noise[:, i : i + 1]))
            for i in range(32)
        ]
    )
    expected = functional.one_hot(votes, 2).sum(0).argmax(-1)
    assert torch.equal(policy.act(seen(), None), expected)


def test_draws_are_named_and_each_seed_has_its_own():
    together, alone = smoothed(), smoothed(seeds=(7,))
    first = together.act(seen(), Streams([0, 7]))
    assert torch.equal(first, together.act(seen(), Streams([0, 7])))
    assert torch.equal(first[1:], alone.act(seen((7,)), Streams([7])))
    assert not torch.equal(first, together.act(seen(), None))
    streams = Streams([0, 7])
    assert not torch.equal(together.act(seen(), streams), together.act(seen(), streams))


def test_images_are_refused():
    policy = GaussianPolicy(1, 3, 2, (4,), images={"camera": (3, 64, 64)}, encoder={"kind": "drq"})
    with pytest.raises(UserError, match="camera"):
        SmoothedPolicy(policy, DEVIATION, 4, Streams([0]))
