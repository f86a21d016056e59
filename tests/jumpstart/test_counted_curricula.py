"""Curricula that learn from training episodes, against their rules written once more."""

import numpy as np
import pytest

from jsrl.core.episodes import Episode
from jsrl.core.errors import UserError
from jsrl.core.protocols import LearnsFromEpisodes
from jsrl.core.streams import Streams
from jsrl.jumpstart.curricula import curricula, curriculum_state, restore_curriculum

KINDS = ("thompson", "frontier", "learning_progress")
H1 = 50


def made(kind, h1=H1, **options):
    return curricula.build(curricula[kind].options(kind=kind, **options), h1, 0.3)


def episode(h, success):
    return Episode(0, 1.0, success, 60, min(h, 60), h)


def thompson(history, streams):
    """Counts from the whole history, whose newest episode has been forgotten once."""
    good, bad = dict.fromkeys(STEPS, 0.5), dict.fromkeys(STEPS, 0.5)
    for age, (h, success) in enumerate(reversed(history), start=1):
        (good if success else bad)[h] += 0.9**age
    generator = np.random.default_rng(streams.numpy("thompson")[0].bit_generator.seed_seq)
    drawn = generator.beta([good[h] for h in STEPS], [bad[h] for h in STEPS])
    best = max(drawn)
    return min(h for h, value in zip(STEPS, drawn, strict=True) if value >= 0.4 * best)


def frontier(history, streams):
    away = {}
    for h in STEPS:
        own = [(0.9**age, s) for age, (g, s) in enumerate(reversed(history), start=1) if g == h]
        total = sum(weight for weight, _ in own)
        mean = (0.5 + sum(weight for weight, s in own if s)) / (1 + total)
        away[h] = round(abs(mean - 0.5), 12)
    return min(h for h in STEPS if away[h] == min(away.values()))


def learning_progress(history, streams):
    means = {h: [0.0, 0.0] for h in STEPS}
    for h, success in history:
        means[h] = [0.7 * means[h][0] + 0.3 * success, 0.9 * means[h][1] + 0.1 * success]
    speed = np.array([abs(means[h][0] - means[h][1]) for h in STEPS])
    even = np.full(len(STEPS), 1 / len(STEPS))
    odds = 0.2 * even + 0.8 * speed / speed.sum() if speed.any() else even
    u = streams.numpy("learning_progress")[0].random()
    return STEPS[int(np.searchsorted(odds.cumsum(), u, side="right"))]


STEPS = (40, 30, 20, 10, 0)
ORACLES = {
    "thompson": (thompson, {"forgetting": 0.9, "share": 0.4}),
    "frontier": (frontier, {"forgetting": 0.9}),
    "learning_progress": (learning_progress, {"fast_rate": 0.3, "slow_rate": 0.1}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_h_follows_from_all_training_episodes_so_far(kind):
    oracle, options = ORACLES[kind]
    generator, seen = np.random.default_rng(0), set()
    for run in range(20):
        curriculum, history = made(kind, **options), []
        for number in range(50):
            streams = Streams([run]).child("episode", 0, number)
            h = curriculum.guide_steps(streams)
            assert h == oracle(history, streams)
            assert h == curriculum.guide_steps(streams), "asking moves nothing"
            tried = int(generator.choice(STEPS))
            success = bool(generator.uniform() < 0.2 + tried / 60)
            history.append((tried, success))
            before = curriculum_state(curriculum)
            after = curriculum.observe(episode(tried, float(success)))
            assert curriculum_state(curriculum) == before
            curriculum = restore_curriculum(made(kind, 0), curriculum_state(after))
            assert curriculum == after
            seen.add(h)
    assert len(seen) > 2


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_known_and_evaluations_change_nothing(kind):
    curriculum = made(kind).observe(episode(20, 1.0))
    assert isinstance(curriculum, LearnsFromEpisodes)
    assert curriculum.observe(episode(20, None)) == curriculum
    assert curriculum.observe(episode(7, 1.0)) == curriculum
    assert curriculum.advance(1.0, 100) == curriculum
    assert curriculum.stage in range(5)


def trained(kind, success_with, episodes, seed):
    """h of the episodes of a run in which the success follows from h alone."""
    curriculum, chosen = made(kind), []
    generator = np.random.default_rng(seed)
    for number in range(episodes):
        h = curriculum.guide_steps(Streams([seed]).child("episode", 0, number))
        succeeded = float(generator.uniform() < success_with(h))
        curriculum = curriculum.observe(episode(h, succeeded))
        chosen.append(h)
    return np.array(chosen[episodes // 2 :])


def test_thompson_guides_as_little_as_the_success_of_episodes_allows():
    worse = np.array(
        [trained("thompson", lambda h: 0.6 if h == 0 else 0.1, 200, s) for s in range(5)]
    )
    assert (worse == 0).mean() > 0.8
    equal = np.array([trained("thompson", lambda h: 0.4, 200, s) for s in range(5)])
    assert (equal == 0).mean() > 0.45
    assert all((equal == 0).sum() > (equal == h).sum() for h in STEPS if h > 0)
    needed = np.array([trained("thompson", lambda h: 0.8 * (h >= 30), 200, s) for s in range(5)])
    assert (needed == 30).mean() > 0.5
    assert (needed >= 30).mean() > 0.7


def test_frontier_stays_where_every_second_episode_succeeds():
    chosen = np.array([trained("frontier", lambda h: h / 40, 300, s) for s in range(5)])
    assert (chosen == 20).mean() > max((chosen == h).mean() for h in STEPS if h != 20)


def test_few_steps_are_each_chosen_from_once():
    assert made("thompson", 2).steps == (2, 1, 0)
    assert made("frontier", 0).guide_steps(Streams([0])) == 0


@pytest.mark.parametrize(
    ("kind", "option", "value"),
    [
        ("thompson", "share", 1.5),
        ("thompson", "forgetting", 0.0),
        ("frontier", "sought_success", -0.5),
        ("frontier", "stages", 0),
        ("learning_progress", "fast_rate", 2.0),
        ("learning_progress", "exploration", -1.0),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_key(kind, option, value):
    with pytest.raises(UserError, match=rf"curriculum\.{option}={value}"):
        curricula[kind].options(kind=kind, **{option: value}).check()
