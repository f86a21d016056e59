"""A watch: which test decides, with which level, and of which episodes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from monitor.episodes import network, sample_of, walk
from monitor.watches import EpisodeSource, numbers, ready, settings, watch_of

from jsrl.core.errors import UserError
from jsrl.monitor.capture.samples import Sample
from jsrl.monitor.detectors.findings import DetectorSettings


def test_the_first_episodes_are_the_reference_and_the_next_are_tested():
    watch, source = ready(settings())
    assert numbers(watch.reference) == list(range(8))
    for number in range(8, 12):
        check = watch.add(source.episode())
        assert (check.episode, check.step) == (number, number * 1000 + 19)
        reference, recent = watch.latest()
        assert len(reference.steps) == 8 * 20
        first = max(8, number - 2)
        assert sorted(set(recent.steps.step // 1000)) == list(range(first, number + 1))
    assert numbers(watch.reference) == list(range(8))


def test_before_the_window_is_full_it_says_that_it_cannot_tell_and_raises_no_alarm():
    watch, source = ready(settings())
    first, second, third = (watch.add(source.episode(shift=10.0)) for _ in range(3))
    assert first.note == "1 of 3 episodes: not enough to tell yet"
    assert first.method == "permutations" and not first.alarm
    # Of the 9 splits into 8 and 1 the observed one is the most extreme.
    assert first.p_value == first.finding.smallest_p == pytest.approx(1 / 9)
    # Two are enough: 1 of 45 splits is below 0.05.
    assert second.p_value == pytest.approx(1 / 45) and second.level == pytest.approx(0.05)
    assert second.alarm and second.note == ""
    assert third.p_value == pytest.approx(1 / 165) and third.alarm


def test_permutations_decide_where_they_can_reach_the_level():
    watch, source = ready(settings(window=2))
    watch.add(source.episode())
    check = watch.add(source.episode())
    assert check.method == "permutations" and check.note == ""
    assert check.p_value == check.finding.p_value
    assert check.level == pytest.approx(0.5 / 10)


def test_a_martingale_decides_where_permutations_cannot_and_the_note_says_so():
    watch, source = ready(settings(level=0.05, horizon=20, window=1, reference=5))
    check = watch.add(source.episode())
    assert check.method == "martingale"
    # 1 of 6 splits; 0.0025 needs 400 of them: one episode against 399.
    assert "permuting 5 and 1 episodes cannot reach 0.0025" in check.note
    assert "smallest p-value is 0.17; 399 reference episodes and" in check.note
    assert "a conformal martingale decides" in check.note
    assert check.finding.smallest_p == pytest.approx(1 / 6)
    assert check.level == 0.05


def test_a_martingale_notices_what_goes_on_being_strange_and_nothing_else():
    own = settings(level=0.05, horizon=30, window=1, reference=50)
    watch, source = ready(own)
    clean = [watch.add(source.episode()) for _ in range(30)]
    assert {check.method for check in clean} == {"martingale"}
    assert not any(check.alarm for check in clean)
    watch, source = ready(own)
    strange = [watch.add(source.episode(shift=4.0)) for _ in range(8)]
    assert not strange[0].alarm and strange[-1].alarm
    assert all(check.alarm == (check.p_value <= 0.05) for check in strange)


def test_too_few_permutations_are_no_way_to_reach_a_level():
    # 455 splits of 12 and 3 reach 0.005; 100 permutations give no p-value below 1/101.
    own = settings(level=0.05, reference=12, detector=DetectorSettings(permutations=100))
    watch, source = ready(own)
    checks = [watch.add(source.episode(shift=10.0)) for _ in range(4)]
    for check in checks[2:]:
        assert check.method == "martingale" or check.finding.smallest_p <= check.level


def test_the_level_is_divided_over_tests_and_phases():
    watch, source = ready(settings(stride=2, shared_by=2, level=0.9))
    checks = [watch.add(source.episode()) for _ in range(6)]
    assert [check is None for check in checks] == [True, False] * 3
    # 0.9 over 2 phases, and 5 tests in 10 episodes.
    assert {check.level for check in checks[1::2]} == {0.9 / 2 / 5}
    assert [check.episode for check in checks[1::2]] == [9, 11, 13]
    said = watch.settings.statement(10)
    assert "any alarm at all in 10 episodes has a probability of at most 0.9" in said
    # The account is opened anew: the bounds of both add up.
    assert "in 20 episodes has a probability of at most 1" in watch.settings.statement(11)


def test_the_same_streams_give_the_same_tests_and_others_other_permutations():
    def p_values(seed):
        own = settings(reference=20, detector=DetectorSettings(300))
        watch, source = watch_of(own, seed), EpisodeSource(5)
        checks = [watch.add(source.episode()) for _ in range(24)]
        return [check.p_value for check in checks[22:]]

    assert p_values(0) == p_values(0) != p_values(1)


def test_rows_of_long_episodes_are_spread_evenly():
    watch, source = ready(settings(detector=DetectorSettings(600, rows_per_episode=4)))
    # 0, 6⅓, 12⅔ and 19, rounded.
    assert [sample.steps.time.tolist() for sample in watch.reference] == [[0, 6, 13, 19]] * 8
    sample = watch.reference[0]
    expected = source.forward(sample.steps)
    torch.testing.assert_close(sample.activations["hidden"], expected["hidden"])


def test_joined_episodes_are_numbered_anew():
    source = EpisodeSource()
    episodes = [source.episode(length=n) for n in (3, 1, 2)]
    for episode in episodes:
        episode.steps.episode[:] = 7
    together = Sample.concatenate(episodes, renumber=True)
    assert together.steps.episode.tolist() == [0, 0, 0, 1, 2, 2]
    assert together.steps.time.tolist() == [0, 1, 2, 0, 0, 1]
    expected = torch.cat([episode.activations["outputs"] for episode in episodes])
    assert torch.equal(together.activations["outputs"], expected)


@pytest.mark.parametrize("is_ready", [False, True])
def test_an_episode_without_rows_is_refused(is_ready):
    watch = ready(settings())[0] if is_ready else watch_of(settings())
    before = watch.episodes
    with pytest.raises(UserError, match=r"without steps.*monitor\.interval"):
        watch.add(EpisodeSource().episode().take(np.zeros(0, np.int64)))
    assert watch.episodes == before


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"window": 0}, r"monitor\.window=0 must be at least 1"),
        ({"reference": 1}, r"monitor\.reference=1 at least 2"),
        ({"stride": 0}, r"monitor\.stride=0"),
        ({"stride": 4, "window": 3}, r"monitor\.stride=4 at least 1 and at most monitor\.window"),
        ({"level": 1.0}, r"monitor\.level=1\.0 must lie between 0 and 1"),
        ({"level": 0.0}, r"monitor\.level=0\.0 must lie between 0 and 1"),
    ],
)
def test_settings_out_of_range_are_explained(changes, said):
    with pytest.raises(UserError, match=said):
        settings(**changes)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("time_bins", [(), (9, 21), tuple(range(1, 30))])
@pytest.mark.parametrize("level", [0.05, 0.5])
def test_episodes_of_any_lengths_are_tested_one_after_another(time_bins, level):
    rng, module = np.random.default_rng(0), network()
    for trial in range(12):
        own = settings(
            **{"level": level, "horizon": 2 if trial % 2 else 50},
            **{"window": 1 + trial % 3, "reference": 2 + trial % 4},
            detector=DetectorSettings(50, (2, 8, 32)[trial % 3], time_bins),
        )
        watch = watch_of(own, trial)
        for number in range(9):
            length, actor = rng.choice([1, 2, 3, 9, 33]), int(rng.integers(0, 2))
            check = watch.add(sample_of(walk(rng, int(length)), module, number, actor=actor))
            assert (check is None) == (number < own.reference)
            assert check is None or 0 < check.p_value <= 1
            assert check is None or check.alarm <= (check.p_value <= check.level)


def test_an_episode_of_another_environment_is_told():
    watch, source = ready(settings())
    watch.add(source.episode())
    narrow = source.episode()
    narrow = replace(
        narrow, steps=replace(narrow.steps, observations=np.zeros((20, 3), np.float32))
    )
    with pytest.raises(UserError, match=r"episodes have other sizes than the first.*one network"):
        watch.add(narrow)
