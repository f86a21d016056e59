"""Takeovers by a person and by an alarm, each against its words written once more, row by row."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from jumpstart.moments import ENVS, SEEDS, a_moment, beginning, rule_of

from jsrl.core.arbitration import ArbiterState, Decision
from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.streams import Streams
from jsrl.jumpstart.arbiters.monitor import LARGEST
from jsrl.statistics.windows import allowed_exceedances, fewest_for

STEPS = 100
"""So that with 10 rows each oracle is asked for 1,000."""

RNG = np.random.default_rng


@pytest.mark.parametrize("commitment", [1, 3])
def test_a_person_acts_from_taking_over_to_giving_back_or_the_end(commitment):
    rule, generator = rule_of("human", commitment=commitment), np.random.default_rng(0)
    state, streams = rule.fresh(SEEDS, ENVS), Streams([3, 8])
    taken, stands, times = {}, {}, torch.zeros(SEEDS, ENVS, dtype=torch.int64)
    shares = []
    for index in range(STEPS):
        mask = torch.tensor(generator.uniform(size=(SEEDS, ENVS)) < (0.1 if index else 1))
        state = rule.begin(beginning(mask), state, streams)
        times = torch.where(mask, 0, times + 1)
        moment = a_moment(generator, times=times)
        share, state = rule.decide(moment, state, streams)
        for place in np.ndindex(SEEDS, ENVS):
            asked = int(moment.takeover[place])
            before = taken.get(place, False) and not mask[place]
            # A key that is pressed while a decision stands is not forgotten.
            taken[place] = asked > 0 or (before and asked == 0)
            if times[place] % commitment == 0:
                stands[place] = not taken[place]
            assert share[place] == stands[place]
        shares.append(share)
    assert 0.2 < torch.stack(shares).mean() < 0.95


def test_nobody_overrides_an_evaluation():
    rule = rule_of("human")
    taken = ArbiterState(episodes={k: ~v for k, v in rule.fresh(SEEDS, ENVS).episodes.items()})
    moment = a_moment(np.random.default_rng(1), explores=False, takeover=None)
    assert (rule.decide(moment, taken, Streams([3, 8]))[0] == 1).all()


MONITOR = {"level": 0.4, "window": 3, "episodes": 8, "trust": "training"}


class MonitorInWords:
    """One seed, as the rule's file has it in its docstring, from all windows each time."""

    def __init__(self, level, window, episodes, **others):
        self.level, self.window, self.half = level, window, episodes // 2
        self.ranges, self.worst, self.rows, self.widths = [], [], {}, None
        self.ranged = 0

    def begin(self, rows, finished):
        for row in rows:
            self.end(row, finished[row])
        for row in rows:
            uses = [self.rows[other]["use"] for other in self.rows]
            use, wanted = "watched", ENVS
            if self.ranged < self.half:
                use, wanted = "ranges", self.half - self.ranged
            elif len(self.worst) < self.half:
                use, wanted = "threshold", self.half - len(self.worst)
            self.rows[row] = {
                "use": use if uses.count(use) < wanted else "none",
                **{"seen": [], "features": [], "excess": [0.0], "alarmed": False},
            }

    def end(self, row, finished):
        episode = self.rows.pop(row, None)
        if episode is None or not finished or math.isinf(max(episode["excess"])):
            return
        if episode["use"] == "ranges":
            self.ranged += 1
        if episode["use"] == "threshold":
            self.worst.append(max(episode["excess"]))
        if episode["use"] == "ranges" or (episode["use"] == "watched" and not episode["alarmed"]):
            self.ranges += episode["features"]
        if episode["use"] == "ranges" and self.ranges:
            self.widths = [max(column) - min(column) for column in zip(*self.ranges, strict=True)]

    def step(self, row, observation):
        episode = self.rows[row]
        episode["seen"].append(observation)
        last = np.array(episode["seen"][-self.window :], np.float64)
        found = 0.0
        if len(last) == self.window:
            features = [*last.mean(0), *np.log(last.std(0) + 1e-6)]
            episode["features"].append(features)
            if episode["use"] in ("threshold", "watched"):
                found = self.excess(features)
        if not np.isfinite(observation).all():
            found = math.inf
        episode["excess"].append(found)
        if episode["use"] != "watched":
            return 1.0
        alarm = found > sorted(self.worst)[-math.floor(self.level * (self.half + 1))]
        episode["alarmed"] |= alarm
        return float(not alarm)

    def excess(self, features):
        if not np.isfinite(features).all():
            return math.inf
        found = [0.0]
        for number, value in enumerate(features):
            seen = [other[number] for other in self.ranges]
            low, high = min(seen), max(seen)
            width = self.widths[number] if self.widths[number] > 0 else 1.0
            found += [(low - value) / width, (value - high) / width]
        return max(found)


def observations(generator, times):
    """Columns that move, jump at times, stay for a while, and never move; now and then NaN."""
    shape = (*times.shape, 3)
    seen = generator.normal(size=shape) + (generator.uniform(size=shape) < 0.03) * 4
    seen[..., 1] *= generator.uniform(size=times.shape) < 0.7
    seen[..., 2] = 0.25
    seen[..., 0][generator.uniform(size=times.shape) < 0.01] = np.nan
    return torch.tensor(seen).float()


def seeing(vector, times=None):
    """A moment of which the monitor looks at what is seen."""
    nothing = torch.zeros(vector.shape[:2], dtype=torch.int64)
    times = nothing if times is None else times
    return Decision(Observation(vector), times, nothing, nothing == 0, step=0, explores=True)


def watch(rule, seeds, steps, halfway=None):
    """What the rule decides over episodes of each seed ``[T, S, E]``, and what it was shown."""
    streams, state = Streams(seeds), rule.fresh(len(seeds), ENVS)
    generators = [np.random.default_rng(seed) for seed in seeds]
    times, found = torch.zeros(len(seeds), ENVS, dtype=torch.int64), []
    for index in range(steps):
        drawn = torch.tensor(np.array([g.uniform(size=(2, ENVS)) for g in generators]))
        mask = drawn[:, 0] < (0.12 if index else 1)
        # Of an episode that strayed on resuming there is no end.
        finished = mask & (drawn[:, 1] < 0.9) & (index > 0)
        state = rule.begin(beginning(mask, finished), state, streams)
        times = torch.where(mask, 0, times + 1)
        parts = [observations(g, times[i : i + 1]) for i, g in enumerate(generators)]
        seen = torch.cat(parts)
        share, state = rule.decide(seeing(seen, times), state, streams)
        if index == halfway:
            state = ArbiterState.restored(state.state_dict())
        found.append((mask, finished, seen, share))
    return tuple(torch.stack(column) for column in zip(*found, strict=True))


def test_the_monitor_follows_its_words():
    rule, seeds = rule_of("monitor", **MONITOR), [4, 9]
    columns = watch(rule, seeds, 3 * STEPS)
    words = [MonitorInWords(**MONITOR) for _ in seeds]
    for mask, finished, seen, share in zip(*columns, strict=True):
        for s in range(len(seeds)):
            words[s].begin([e for e in range(ENVS) if mask[s, e]], finished[s])
            expected = [words[s].step(e, seen[s, e].double().numpy()) for e in range(ENVS)]
            assert share[s].tolist() == expected
    assert 0 < (columns[-1][-STEPS:] == 0).float().mean() < 0.5
    assert (columns[-1][:10] == 1).all()


def test_the_monitor_of_a_seed_needs_no_company_and_goes_on_in_the_middle_of_an_episode():
    rule = rule_of("monitor", **MONITOR)
    together = watch(rule, [4, 9], STEPS, halfway=57)[-1]
    assert (together == 0).any(0).any(1).all()
    for index, seed in enumerate([4, 9]):
        assert torch.equal(watch(rule, [seed], STEPS)[-1], together[:, index : index + 1])


def test_a_committed_monitor_watches_every_step():
    free, bound = (rule_of("monitor", commitment=k, **MONITOR) for k in (1, 2))
    shares = [watch(rule, [4], STEPS) for rule in (free, bound)]
    mask, times = shares[0][0], torch.zeros(1, ENVS, dtype=torch.int64)
    standing = shares[0][-1][0]
    for began, at_once, later in zip(mask, shares[0][-1], shares[1][-1], strict=True):
        times = torch.where(began, 0, times + 1)
        standing = torch.where(times % 2 == 0, at_once, standing)
        assert torch.equal(later, standing)


def walks(generator, count, level=0.0):
    """Episodes whose steps depend on one another, each with a level of its own."""
    found = []
    for _ in range(count):
        steps = generator.normal(size=(int(generator.integers(5, 40)), 2))
        episode = np.zeros_like(steps)
        for t in range(1, len(steps)):
            episode[t] = 0.95 * episode[t - 1] + steps[t]
        found.append(torch.tensor(episode + generator.normal(size=2) + level).float())
    return found


def alarmed(rule, trusted, episodes):
    """Whether there is any alarm in each of the episodes, after these trusted ones."""
    count, streams = len(episodes), Streams([0])
    state = rule.trust(trusted, rule.fresh(1, count))
    state = rule.begin(beginning(torch.ones(1, count, dtype=torch.bool)), state, streams)
    found = torch.zeros(count, dtype=torch.bool)
    for index in range(max(map(len, episodes))):
        rows = torch.stack([episode[min(index, len(episode) - 1)] for episode in episodes])
        share, state = rule.decide(seeing(rows.unsqueeze(0)), state, streams)
        found |= (share[0] == 0) & torch.tensor([index < len(episode) for episode in episodes])
    return found.tolist()


def test_false_alarms_keep_to_the_level_and_a_faulted_sensor_is_noticed():
    generator, repeats, count = np.random.default_rng(6), 30, 20
    rule = rule_of("monitor", level=0.2, window=4, episodes=8, trust="data")
    false, stuck, biased = [], [], []
    for _ in range(repeats):
        trusted, fresh = walks(generator, 8), walks(generator, count)
        faulted = [episode * torch.tensor([1.0, 0.0]) for episode in fresh]
        shifted = [episode + torch.tensor([30.0, 0.0]) for episode in fresh]
        found = alarmed(rule, trusted, [*fresh, *faulted, *shifted])
        for part, kept in enumerate((false, stuck, biased)):
            kept += found[count * part : count * (part + 1)]
    # One reference's own rate is a Beta(1, 4), whose deviation is 0.163; with four of the mean's.
    assert 0.05 < np.mean(false) < 0.2 + 4 * 0.163 / math.sqrt(repeats)
    assert np.mean(stuck) > 0.7 and np.mean(biased) > 0.9


QUICK = {"level": 0.3, "window": 4, "episodes": 8, "trust": "data"}


def test_episodes_of_the_data_are_trusted_as_those_of_training_are():
    generator = np.random.default_rng(8)
    episodes = walks(generator, 12)
    from_data = rule_of("monitor", **QUICK)
    known = from_data.trust(episodes, from_data.fresh(2, 1)).seeds
    rule, streams = (
        rule_of("monitor", level=0.3, window=4, episodes=8, trust="training"),
        Streams([0]),
    )
    state = rule.fresh(1, 1)
    everywhere = torch.ones(1, 1, dtype=torch.bool)
    for number, episode in enumerate(episodes[:8]):
        state = rule.begin(beginning(everywhere, everywhere & (number > 0)), state, streams)
        for vector in episode:
            state = rule.decide(seeing(vector.view(1, 1, -1)), state, streams)[1]
    learnt = rule.begin(beginning(everywhere, everywhere), state, streams).seeds
    assert known.keys() == learnt.keys()
    for name, values in learnt.items():
        torch.testing.assert_close(known[name], values.expand(2, *values.shape[1:]))


def test_a_wider_range_makes_no_alarm_that_was_none_before():
    """Also of a column that never moved in the trusted episodes, and then does by a trifle."""
    rule = rule_of("monitor", **QUICK)
    episodes = [torch.stack([e[:, 0], torch.zeros(len(e))], 1) for e in walks(RNG(3), 8)]
    state = rule.trust(episodes, rule.fresh(1, 1))
    state = replace(state, seeds=state.seeds | {LARGEST: state.seeds[LARGEST].clamp(min=0.5)})
    everywhere, streams = torch.ones(1, 1, dtype=torch.bool), Streams([0])

    def alarms(moved: float, before):
        before, found = rule.begin(beginning(everywhere, everywhere), before, streams), []
        for vector in episodes[0]:
            seen = torch.tensor([[[float(vector[0]), moved]]])
            share, before = rule.decide(seeing(seen), before, streams)
            found.append(float(share) == 0)
        return sum(found), before

    assert alarms(0.01, state)[0] == 0
    quiet, widened = alarms(0.001, state)
    assert quiet == 0
    assert alarms(0.01, widened)[0] == 0


def test_too_few_trusted_episodes_are_refused_with_numbers_that_work():
    rule = rule_of("monitor")
    episodes = walks(np.random.default_rng(0), 38)
    with pytest.raises(UserError, match=r"arbiter\.episodes=40.* has 38.*at least 38") as error:
        rule.trust(episodes, rule.fresh(1, 1))
    assert "arbiter.trust=training" in str(error.value)
    fewer = rule_of("monitor", episodes=38)
    fewer.trust(episodes, fewer.fresh(1, 1))
    longer = rule_of("monitor", episodes=38, window=100)
    with pytest.raises(UserError, match=r"arbiter\.window=100 is longer"):
        longer.trust(episodes, longer.fresh(1, 1))


@pytest.mark.parametrize("level", [0.5, 0.3, 0.2, 0.1, 0.05, 0.01, 1 / 3, 1 / 7])
def test_the_fewest_episodes_of_a_level_just_allow_one_to_exceed(level):
    count = fewest_for(level)
    assert allowed_exceedances(level, count) >= 1
    assert count == 0 or allowed_exceedances(level, count - 1) == 0
