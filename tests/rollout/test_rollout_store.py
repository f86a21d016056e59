"""Rollouts and their advantages, by hand, by their sum, and by Stable-Baselines3."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.buffers import RolloutBuffer

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.rollout.rollout_store import RolloutStep, RolloutStore, generalised_advantages


def test_advantages_by_hand():
    """γ = 0.5, λ = 0.5; step 1 runs into a time limit, step 3 terminates."""
    flags = torch.tensor
    found = generalised_advantages(
        torch.tensor([1.0, 2.0, 4.0, 8.0]),
        torch.tensor([1.0, 1.0, 2.0, 2.0]),
        torch.tensor([1.0, 6.0, 2.0, 100.0]),
        flags([False, False, False, True]),
        flags([False, True, False, False]),
        0.5,
        0.5,
    )
    # Differences: 1 + 0.5 - 1 = 0.5, 2 + 3 - 1 = 4, 4 + 1 - 2 = 3, 8 - 2 = 6.
    assert found.tolist() == [0.5 + 0.25 * 4, 4.0, 3 + 0.25 * 6, 6.0]


def random_steps(generator, length, seeds, envs, chance=0.3, pixels=False):
    def normal():
        return torch.from_numpy(generator.normal(size=(seeds, envs)).astype(np.float32))

    steps = []
    for number in range(length):
        draw = generator.random((seeds, envs))
        place = torch.arange(envs).expand(seeds, -1) + number * envs
        place = place + 1000 * torch.arange(seeds).unsqueeze(1)
        images = (
            {"i": (place % 256).to(torch.uint8).reshape(seeds, envs, 1, 1, 1)} if pixels else {}
        )
        steps.append(
            RolloutStep(
                observation=Observation(place.unsqueeze(-1).float(), images),
                action=place,
                log_prob=normal(),
                value=normal(),
                final_value=normal(),
                reward=normal(),
                terminated=torch.from_numpy(draw < chance / 2),
                truncated=torch.from_numpy((draw >= chance / 2) & (draw < chance)),
                by_guide=torch.from_numpy(draw > 0.8),
            )
        )
    return steps, normal()


def filled(steps, last, discount=0.9, trace=0.8):
    store = RolloutStore(len(steps), discount, trace)
    for step in steps:
        store.add(step)
    store.finish(last)
    return store


def everything(steps):
    seeds, envs = steps[0].reward.shape
    return torch.arange(len(steps) * envs).expand(seeds, -1)


@given(
    seed=st.integers(0, 10**6),
    length=st.integers(1, 12),
    envs=st.integers(1, 3),
    discount=st.sampled_from([0.0, 0.9, 1.0]),
    trace=st.sampled_from([0.0, 0.8, 1.0]),
)
def test_advantages_are_those_of_stable_baselines3(seed, length, envs, discount, trace):
    steps, last = random_steps(np.random.default_rng(seed), length, 1, envs)
    theirs = RolloutBuffer(
        length,
        spaces.Box(-np.inf, np.inf, (1,)),
        spaces.Box(-1, 1, (1,)),
        gae_lambda=trace,
        gamma=discount,
        n_envs=envs,
    )
    start = np.zeros(envs, bool)
    for step in steps:
        # It adds the value after a time limit to the reward before it stores a step.
        reward = step.reward + discount * step.final_value * step.truncated
        theirs.add(
            step.observation.vector[0].numpy(),
            np.zeros((envs, 1)),
            reward[0].numpy(),
            start,
            step.value[0].unsqueeze(-1),
            step.log_prob[0],
        )
        start = (step.terminated | step.truncated)[0].numpy()
    theirs.compute_returns_and_advantage(last[0], start)
    batch = filled(steps, last, discount, trace).sample(everything(steps))
    mine = batch.advantage.reshape(length, envs).numpy()
    assert mine == pytest.approx(theirs.advantages, rel=1e-4, abs=1e-4)
    targets = batch.value_target.reshape(length, envs).numpy()
    assert targets == pytest.approx(theirs.returns, rel=1e-4, abs=1e-4)


def test_with_a_trace_of_one_the_target_is_the_discounted_return():
    steps, last = random_steps(np.random.default_rng(0), 6, 2, 3, chance=0.0)
    found = filled(steps, last, 0.9, 1.0).sample(everything(steps)).value_target[:, :3]
    expected = sum(0.9**k * step.reward for k, step in enumerate(steps)) + 0.9**6 * last
    assert torch.allclose(found, expected, atol=1e-5)


def test_a_minibatch_has_the_fields_of_its_steps():
    steps, last = random_steps(np.random.default_rng(0), 5, 2, 3, pixels=True)
    indices = torch.tensor([[14, 0, 7], [3, 3, 8]])
    batch = filled(steps, last).sample(indices)
    expected = indices + torch.tensor([[0], [1000]])
    assert torch.equal(batch.action, expected)
    assert torch.equal(batch.observation.vector[..., 0], expected.float())
    assert torch.equal(batch.observation.images["i"].flatten(1), (expected % 256).to(torch.uint8))
    for seed in range(2):
        for place, index in enumerate(indices[seed].tolist()):
            step = steps[index // 3]
            assert batch.log_prob[seed, place] == step.log_prob[seed, index % 3]
            assert batch.value[seed, place] == step.value[seed, index % 3]
            assert batch.weight[seed, place] == 1 - step.by_guide[seed, index % 3].float()


def test_a_seed_is_the_same_alone_and_in_company():
    steps, last = random_steps(np.random.default_rng(0), 8, 3, 2)

    def of(step):
        fields = {name: value[1:2] for name, value in vars(step).items() if name != "observation"}
        return RolloutStep(observation=Observation(step.observation.vector[1:2], {}), **fields)

    together = filled(steps, last).sample(everything(steps))
    alone = filled([of(step) for step in steps], last[1:2]).sample(everything(steps)[1:2])
    assert torch.equal(together.advantage[1:2], alone.advantage)
    assert torch.equal(together.value_target[1:2], alone.value_target)


def test_a_rollout_goes_on_from_a_checkpoint(tmp_path):
    steps, last = random_steps(np.random.default_rng(0), 8, 2, 2, pixels=True)
    store = RolloutStore(8, 0.9, 0.8)
    for step in steps[:3]:
        store.add(step)
    torch.save(store.state_dict(), tmp_path / "rollout.pt")
    resumed = RolloutStore(8, 0.9, 0.8)
    resumed.load_state_dict(torch.load(tmp_path / "rollout.pt", weights_only=True))
    assert len(resumed) == 3
    for step in steps[3:]:
        resumed.add(step)
    resumed.finish(last)
    mine, other = (s.sample(everything(steps)) for s in (resumed, filled(steps, last)))
    assert torch.equal(mine.advantage, other.advantage)
    assert torch.equal(mine.observation.images["i"], other.observation.images["i"])


def test_a_rollout_is_whole_before_it_is_finished_and_finished_before_it_is_read():
    steps, last = random_steps(np.random.default_rng(0), 2, 1, 1)
    store = RolloutStore(2, 0.9, 0.8)
    store.add(steps[0])
    with pytest.raises(ValueError, match="1 of 2 steps"):
        store.finish(last)
    store.add(steps[1])
    with pytest.raises(ValueError, match="finish first"):
        store.sample(torch.zeros(1, 1, dtype=torch.int64))
    with pytest.raises(ValueError, match="clear it first"):
        store.add(steps[0])
    store.finish(last)
    store.clear()
    assert len(store) == 0 and not store.is_full


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0, 0.9, 0.9), "0 steps"),
        ((1, 1.1, 0.9), r"discount=1\.1"),
        ((1, 0.9, -1.0), r"trace=-1\.0"),
    ],
)
def test_values_out_of_range_are_refused_in_one_line(arguments, words):
    with pytest.raises(UserError, match=words):
        RolloutStore(*arguments)
