"""A reference that goes with the policy: what moves into it, what never does, how it is kept."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from monitor.episodes import network
from monitor.watches import EpisodeSource, numbers, ready, settings, watch_of

import jsrl.monitor.watch.episode_watch
from jsrl.monitor.capture.samples import Sample
from jsrl.monitor.detectors.findings import DetectorSettings


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
    bad.steps.observations[3, 0] = np.nan
    check = watch.add(bad)
    assert check.alarm and check.p_value == 0 and check.method == "finite"
    assert check.note == "observations, actions or activations are not finite"
    for _ in range(6):
        watch.add(source.episode())
    assert 30 not in numbers(watch.reference)
    assert all(np.isfinite(sample.steps.observations).all() for sample in watch.reference)


@pytest.mark.parametrize("of", ["activations", "observations"])
def test_an_episode_that_is_not_finite_is_no_reference(of):
    source, watch = EpisodeSource(), watch_of(settings())
    bad = source.episode()
    if of == "activations":
        bad.activations["hidden"][2, 1] = torch.inf
    else:
        # A layer may hide it: tanh(inf) is 1.
        bad.steps.observations[2, 1] = np.inf
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
    seen, score = [], jsrl.monitor.watch.episode_watch.nonconformity_scores

    def nonconformity_scores(earlier, newest, how):
        seen.append([*earlier.steps.step[earlier.steps.time == 0] // 1000])
        return score(earlier, newest, how)

    monkeypatch.setattr(
        jsrl.monitor.watch.episode_watch, "nonconformity_scores", nonconformity_scores
    )
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
    other = EpisodeSource(module=network(1))
    before = [sample.steps for sample in watch.reference]
    watch.refresh(other.forward)
    reference, recent = watch.latest()
    for sample in (reference, recent):
        expected = other.forward(sample.steps)
        for name, values in expected.items():
            torch.testing.assert_close(sample.activations[name], values)
    assert not torch.equal(
        reference.activations["hidden"], source.forward(reference.steps)["hidden"]
    )
    assert all(a is b.steps for a, b in zip(before, watch.reference, strict=True))
    # The next test is that of a watch which has known no other network.
    anew, again = watch_of(settings(window=2)), EpisodeSource(module=network(1))
    episodes = [again.episode() for _ in range(11)]
    checks = [anew.add(episode) for episode in episodes]
    newest = Sample(episodes[-1].steps, other.forward(episodes[-1].steps))
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

    source = EpisodeSource(2)
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
