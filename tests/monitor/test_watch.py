"""A watch: which test decides, what becomes the reference, and how it goes on."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from monitor.episodes import network, sample_of, walk

import jsrl.monitor.watch
from jsrl.errors import UserError
from jsrl.monitor.detector import DetectorSettings, Sample
from jsrl.monitor.watch import Watch, WatchSettings, joined
from jsrl.seeding import Streams

FEW = DetectorSettings(permutations=600)


def settings(**changes):
    """At each test 0.05: reached by 8 and 2 episodes (45 splits), not by 8 and 1 (9 splits)."""
    few = {"level": 0.5, "horizon": 10, "window": 3, "reference": 8, "detector": FEW}
    return WatchSettings(**(few | changes))


def watch_of(own, seed=0):
    return Watch(own, Streams([seed], ("test",)))


class Source:
    """Numbered episodes of AR(1) steps, seen through a network."""

    def __init__(self, seed=0, module=None):
        self.rng, self.module, self.number = np.random.default_rng(seed), module or network(), 0

    def episode(self, shift=0.0, length=20):
        observations = walk(self.rng, length) + np.float32(shift)
        self.number += 1
        return sample_of(observations, self.module, self.number - 1)

    def forward(self, rows):
        return sample_of(rows.observations, self.module).activations


def ready(own, seed=0):
    """A watch whose reference is complete, and where its episodes come from."""
    source, watch = Source(seed), watch_of(own, seed)
    for _ in range(own.reference):
        assert not watch.ready
        assert watch.add(source.episode()) is None
    assert watch.ready
    return watch, source


def numbers(samples):
    """Which episodes these are; ``rows_of`` numbers their steps by them."""
    return [int(sample.rows.step[0]) // 1000 for sample in samples]


def test_the_first_episodes_are_the_reference_and_the_next_are_tested():
    watch, source = ready(settings())
    assert numbers(watch.reference) == list(range(8))
    for number in range(8, 12):
        check = watch.add(source.episode())
        assert (check.episode, check.step) == (number, number * 1000 + 19)
        reference, recent = watch.latest()
        assert len(reference.rows) == 8 * 20
        first = max(8, number - 2)
        assert sorted(set(recent.rows.step // 1000)) == list(range(first, number + 1))
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
        watch, source = watch_of(own, seed), Source(5)
        checks = [watch.add(source.episode()) for _ in range(24)]
        return [check.p_value for check in checks[22:]]

    assert p_values(0) == p_values(0) != p_values(1)


@pytest.mark.parametrize("window", [1, 2])
def test_passed_episodes_move_on_into_a_rolling_reference(window):
    watch, source = ready(settings(rolling=True, window=window, reference=30), seed=0)
    checks = [watch.add(source.episode()) for _ in range(10)]
    assert not any(check.alarm for check in checks)
    # All that have left the window are in; as many of the oldest are out.
    moved = 10 - window
    assert numbers(watch.reference) == list(range(moved, 30 + moved))
    fixed, source = ready(settings(window=window, reference=30), seed=0)
    for _ in range(10):
        fixed.add(source.episode())
    assert numbers(fixed.reference) == list(range(30))


@pytest.mark.parametrize("window", [1, 2])
def test_an_alarmed_episode_never_moves_into_the_reference(window):
    watch, source = ready(settings(rolling=True, window=window, reference=30), seed=0)
    for _ in range(4):
        assert not watch.add(source.episode()).alarm
    # Trouble that lasts for as many episodes as a window has, and then passes.
    bad = [source.number + i for i in range(window)]
    assert [watch.add(source.episode(shift=10.0)) for _ in range(window)][-1].alarm
    for _ in range(4 * window + 8):
        watch.add(source.episode())
    assert set(bad).isdisjoint(numbers(watch.reference))
    # What was good after the trouble moves in again.
    assert max(numbers(watch.reference)) > bad[-1]


def test_an_episode_that_is_not_finite_never_moves_into_the_reference():
    watch, source = ready(settings(rolling=True, window=1, reference=30), seed=0)
    bad = source.episode()
    bad.rows.observations[3, 0] = np.nan
    check = watch.add(bad)
    assert check.alarm and check.p_value == 0 and check.method == "finite"
    assert check.note == "observations, actions or activations are not finite"
    for _ in range(6):
        watch.add(source.episode())
    assert 30 not in numbers(watch.reference)
    assert all(np.isfinite(sample.rows.observations).all() for sample in watch.reference)


@pytest.mark.parametrize("of", ["activations", "observations"])
def test_an_episode_that_is_not_finite_is_no_reference(of):
    source, watch = Source(), watch_of(settings())
    bad = source.episode()
    if of == "activations":
        bad.activations["hidden"][2, 1] = torch.inf
    else:
        # A layer may hide it: tanh(inf) is 1.
        bad.rows.observations[2, 1] = np.inf
        bad = replace(bad, activations={"outputs": torch.tanh(bad.activations["outputs"])})
    check = watch.add(bad)
    assert (check.alarm, check.method, check.p_value) == (True, "finite", 0.0)
    assert len(watch.reference) == 0


def test_episodes_of_a_single_row_do_not_end_the_run():
    watch, source = ready(settings())
    lone, *_, last = (watch.add(source.episode(length=1)) for _ in range(3))
    # One row on a side is no sample: nothing can be told from it, and no alarm is raised.
    assert lone is None or not lone.alarm
    assert last.method == "permutations"


def test_every_earlier_episode_is_bet_against_once(monkeypatch):
    seen, score = [], jsrl.monitor.watch.strangeness

    def strangeness(earlier, newest, how):
        seen.append([*earlier.rows.step[earlier.rows.time == 0] // 1000])
        return score(earlier, newest, how)

    monkeypatch.setattr(jsrl.monitor.watch, "strangeness", strangeness)
    own = settings(level=0.05, horizon=20, window=1, reference=5, rolling=True)
    watch, source = ready(own)
    for _ in range(6):
        watch.add(source.episode())
    assert len(seen) == 6
    for earlier in seen:
        assert len(earlier) == len(set(earlier))


def test_refreshing_passes_everything_through_the_network_as_it_is_now():
    watch, source = ready(settings(window=2))
    for _ in range(2):
        watch.add(source.episode())
    other = Source(module=network(1))
    before = [sample.rows for sample in watch.reference]
    watch.refresh(other.forward)
    reference, recent = watch.latest()
    for sample in (reference, recent):
        expected = other.forward(sample.rows)
        for name, values in expected.items():
            torch.testing.assert_close(sample.activations[name], values)
    assert not torch.equal(
        reference.activations["hidden"], source.forward(reference.rows)["hidden"]
    )
    assert all(a is b.rows for a, b in zip(before, watch.reference, strict=True))
    # The next test is that of a watch which has known no other network.
    anew, again = watch_of(settings(window=2)), Source(module=network(1))
    checks = [anew.add(again.episode()) for _ in range(11)]
    newest = Sample(again_rows := anew._recent[-1].rows, other.forward(again_rows))
    assert watch.add(newest).p_value == checks[-1].p_value


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"rolling": True, "stride": 2},
        {"level": 0.05, "horizon": 20, "window": 1, "reference": 5},
        {"detector": DetectorSettings(600, rows_per_episode=7)},
    ],
    ids=["permutations", "rolling", "martingale", "thinned"],
)
@pytest.mark.parametrize("cut", [3, 9, 12])
def test_a_loaded_watch_goes_on_exactly(changes, cut):
    def checks(episodes, watch):
        found = [watch.add(episode) for episode in episodes]
        return [check and (check.p_value, check.level, check.alarm, check.note) for check in found]

    source = Source(2)
    episodes = [source.episode(shift=0.5 * (i > 13)) for i in range(18)]
    own = settings(**changes)
    whole = checks(episodes, watch_of(own))
    first = watch_of(own)
    begun = checks(episodes[:cut], first)
    # As a checkpoint keeps it.
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = watch_of(own)
    second.load_state_dict(torch.load(file, weights_only=True), source.forward)
    assert begun + checks(episodes[cut:], second) == whole
    assert any(check is not None for check in whole)


def test_rows_of_long_episodes_are_spread_evenly():
    watch, source = ready(settings(detector=DetectorSettings(600, rows_per_episode=4)))
    # 0, 6⅓, 12⅔ and 19, rounded.
    assert [sample.rows.time.tolist() for sample in watch.reference] == [[0, 6, 13, 19]] * 8
    sample = watch.reference[0]
    expected = source.forward(sample.rows)
    torch.testing.assert_close(sample.activations["hidden"], expected["hidden"])


def test_joined_episodes_are_numbered_anew():
    source = Source()
    episodes = [source.episode(length=n) for n in (3, 1, 2)]
    for episode in episodes:
        episode.rows.episode[:] = 7
    together = joined(episodes)
    assert together.rows.episode.tolist() == [0, 0, 0, 1, 2, 2]
    assert together.rows.time.tolist() == [0, 1, 2, 0, 0, 1]
    expected = torch.cat([episode.activations["outputs"] for episode in episodes])
    assert torch.equal(together.activations["outputs"], expected)


@pytest.mark.parametrize("is_ready", [False, True])
def test_an_episode_without_rows_is_refused(is_ready):
    watch = ready(settings())[0] if is_ready else watch_of(settings())
    before = watch.episodes
    with pytest.raises(UserError, match=r"without rows.*monitor\.interval"):
        watch.add(Source().episode().take(np.zeros(0, np.int64)))
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
