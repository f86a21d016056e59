"""Random streams: what a draw depends on, and what it does not."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jsrl.core.streams import Streams, seed_sequence

SEEDS = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=4, unique=True)


def test_a_stream_is_seeded_by_a_seed_sequence_of_seed_and_name():
    first, second = seed_sequence(7, "noise").generate_state(2, np.uint32)
    generator = torch.Generator()
    generator.manual_seed(int(first) << 32 | int(second))
    expected = torch.randn(5, generator=generator)
    assert torch.equal(Streams([7]).normal("noise", (5,))[0], expected)


def test_every_seed_and_name_has_a_stream_of_its_own():
    streams = Streams(range(20))
    names = ["action_noise", "dropout", "minibatch_online", "a", "b"]
    draws = [row for name in names for row in streams.uniform(name, (8,))]
    draws += list(streams.child("a").uniform("a", (8,)))
    draws += list(streams.child(1).uniform("a", (8,)))
    for one, other in itertools.combinations(draws, 2):
        assert not torch.equal(one, other)


def test_streams_of_neighbouring_seeds_and_of_two_names_are_uncorrelated():
    streams = Streams([0, 1, 2])
    draws = torch.cat([streams.normal("a", (20_000,)), streams.normal("b", (20_000,))])
    correlations = torch.corrcoef(draws) - torch.eye(6)
    # Standard error 1/√20000 = 0.007; five of them.
    assert correlations.abs().max() < 0.035


@given(seeds=SEEDS, data=st.data())
def test_a_seed_draws_the_same_alone_and_in_company(seeds, data):
    index = data.draw(st.integers(0, len(seeds) - 1))
    company, alone = Streams(seeds), Streams([seeds[index]])
    for _ in range(2):
        assert torch.equal(company.normal("n", (3, 2))[index], alone.normal("n", (3, 2))[0])
        assert torch.equal(company.uniform("u", (4,))[index], alone.uniform("u", (4,))[0])
        assert torch.equal(company.integers("i", 99, (5,))[index], alone.integers("i", 99, (5,))[0])
    assert company.integer("reset", 3)[index] == alone.integer("reset", 3)[0]
    generators = company.numpy("x"), alone.numpy("x")
    assert generators[0][index].random() == generators[1][0].random()


def test_a_stream_does_not_notice_draws_from_other_streams():
    alone, busy = Streams([3]), Streams([3])
    first = busy.normal("a", (4,))
    busy.normal("b", (100,))
    busy.child("c").normal("a", (100,))
    assert torch.equal(alone.normal("a", (4,)), first)
    assert torch.equal(alone.normal("a", (4,)), busy.normal("a", (4,)))


def test_seeds_that_are_left_out_draw_nothing():
    streams, other = Streams([0, 1]), Streams([0, 1])
    masked = streams.normal("n", (3,), [True, False])
    assert torch.equal(masked[1], torch.zeros(3))
    assert torch.equal(masked[0], other.normal("n", (3,))[0])
    assert torch.equal(streams.normal("n", (3,))[1], Streams([0, 1]).normal("n", (3,))[1])


def test_the_state_round_trip_continues_every_stream():
    streams = Streams([4, 5])
    streams.normal("a", (7,))
    streams.select(1).integers("only_one", 10, ())
    state = streams.state_dict()
    expected = [streams.normal("a", (3,)), streams.uniform("unused", (2,))]
    expected.append(streams.integers("only_one", 10, (6,)))
    restored = Streams([4, 5])
    restored.normal("a", (1,))
    restored.load_state_dict(state)
    actual = [restored.normal("a", (3,)), restored.uniform("unused", (2,))]
    actual.append(restored.integers("only_one", 10, (6,)))
    assert all(map(torch.equal, expected, actual))


def test_loading_forgets_streams_that_the_saved_state_had_not_begun():
    streams = Streams([4])
    state = streams.state_dict()
    first = streams.normal("a", (3,))
    streams.load_state_dict(state)
    assert torch.equal(streams.normal("a", (3,)), first)


def test_a_state_of_another_number_of_seeds_is_refused():
    with pytest.raises(ValueError, match="2 seeds"):
        Streams([0]).load_state_dict(Streams([0, 1]).state_dict())


def test_a_child_is_fresh_every_time_and_leaves_its_parent_alone():
    parent = Streams([1, 2])
    first = parent.child("evaluation", 5).normal("n", (4,))
    parent.normal("n", (4,))
    assert torch.equal(parent.child("evaluation", 5).normal("n", (4,)), first)
    assert not torch.equal(parent.child("evaluation", 6).normal("n", (4,)), first)
    assert parent.child("a").child("b").key == parent.child("a", "b").key


def test_selected_streams_share_their_state_with_the_whole():
    whole, reference = Streams([1, 2]), Streams([1, 2])
    one = whole.select(1).normal("n", (3,))
    assert torch.equal(one[0], reference.normal("n", (3,))[1])
    assert torch.equal(whole.normal("n", (3,))[1], reference.normal("n", (3,))[1])
    assert torch.equal(whole.normal("n", (3,))[0], Streams([1]).normal("n", (6,))[0, 3:])


@given(seed=st.integers(0, 2**32 - 1), env=st.integers(0, 50), episode=st.integers(0, 10**6))
def test_an_integer_is_a_pure_function_of_its_key_and_fits_an_environments_seed(seed, env, episode):
    streams = Streams([seed])
    value = streams.integer("reset", env, episode)
    assert value == Streams([seed]).integer("reset", env, episode)
    assert 0 <= value[0] < 2**31
    assert value != streams.integer("reset", env, episode + 1)
    assert value != streams.integer("reset", env + 1, episode)


@pytest.mark.parametrize("draw", ["normal", "uniform"])
def test_a_seed_that_is_left_out_draws_nothing(draw):
    asked, plain = Streams([0, 1]), Streams([0, 1])
    first, second = (getattr(plain, draw)("noise", (4,)) for _ in range(2))
    some = getattr(asked, draw)("noise", (4,), where=[False, True])
    assert torch.equal(some, torch.stack([torch.zeros(4), first[1]]))
    after = getattr(asked, draw)("noise", (4,))
    assert torch.equal(after, torch.stack([first[0], second[1]]))


def test_a_permutation_has_every_number_once_and_is_the_seeds_own():
    together, alone = Streams([3, 5]).child("order"), Streams([5]).child("order")
    first, second = (together.permutation("epoch", 50) for _ in range(2))
    assert first.dtype == torch.int64
    for order in (*first, *second):
        assert sorted(order.tolist()) == list(range(50))
    assert len({tuple(order.tolist()) for order in (*first, *second)}) == 4
    assert torch.equal(alone.permutation("epoch", 50), first[1:])
