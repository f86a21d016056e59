"""A rule of who acts at work: what is done, labelled, asked, checkpointed and evaluated."""

import fakes
import numpy as np
import pytest
import torch
from fakes import FakeGuide, FakePolicy, FixedSteps
from rollout.collected import assert_equal, make, run, through_a_file

from jsrl.core.arbitration import GUIDE, ArbiterInForce, ArbiterState
from jsrl.core.errors import UserError
from jsrl.core.streams import Streams
from jsrl.envs.make import Environments, EnvSettings, describe_env
from jsrl.jumpstart.arbiters import Handover, Rule, arbiters, build_arbiter
from jsrl.rollout.evaluator import Evaluator, evaluate_modes, modes_to_play
from jsrl.rollout.tracker import Tracker
from jsrl.rollout.transition_store import TransitionStore

CPU = torch.device("cpu")
H = [FixedSteps(2), FixedSteps(4)]


def counting(**kwargs):
    return EnvSettings(fakes.COUNTING, {"lengths": (3, 7), **kwargs})


class Cycle(Rule):
    """Shares in a cycle over the steps of an episode, shifted by how many episodes have ended."""

    def __init__(self, shares=(0.0, 0.25, 1.0), needs=()):
        self.shares, self.needs = torch.tensor(shares), frozenset(needs)

    def fresh(self, num_seeds, num_envs):
        return ArbiterState({"ended": torch.zeros(num_seeds, dtype=torch.int64)}, {})

    def begin(self, beginning, state, streams):
        ended = state.seeds["ended"] + beginning.finished.sum(1)
        return ArbiterState({"ended": ended}, {})

    def decide(self, moment, state, streams):
        place = (moment.times + state.seeds["ended"].unsqueeze(1)) % len(self.shares)
        return self.shares[place], state


def following(rule, seeds=(0, 1), num_envs=2, settings=None):
    collector = make(list(seeds), num_envs, settings or counting())
    collector.follow(rule, Values(), Values())
    return collector


def test_each_row_holds_the_mixture_that_the_rule_asked_for_and_is_labelled_so():
    spec = describe_env(counting())
    sizes = {"num_seeds": 2, "num_envs": 2, "capacity": 100, "discount": 0.9}
    store = TransitionStore(spec.observation, spec.actions, device=CPU, **sizes)
    collector, policy, guide = following(Cycle()), FakePolicy(noise=0.0), FakeGuide()
    ended = np.zeros(2, int)
    tracker, shares, guided, episodes = Tracker(2), [], np.zeros(4, int), []
    for _ in range(25):
        moment, step, over = collector.step(policy, guide, H)
        own = policy.act(moment.observation.arranged(2, 2), None).flatten(0, 1).numpy()
        cycle = [0.0, 0.25, 1.0]
        for row in range(4):
            share = cycle[(moment.times[row] + ended[row // 2]) % 3]
            assert moment.share[row] == np.float32(share)
            assert moment.by_guide[row] == (share == 0)
            expected = np.float32(share) * own[row] + np.float32(1 - share) * np.float32(0.5)
            np.testing.assert_allclose(moment.actions[row], expected, atol=1e-6)
            if share in (0, 1):
                assert np.array_equal(moment.actions[row], own[row] if share else [0.5, 0.5])
            guided[row] += share < 1
        store.add(moment, step)
        # A rule hears of the end when the next episodes begin.
        for row in np.flatnonzero(step.terminated | step.truncated):
            ended[row // 2] += 1
            episodes.append(int(guided[row]))
            guided[row] = 0
        by_guide = moment.by_guide.reshape(2, 2).mean(1, dtype=np.float32)
        tracker.add(over, by_guide, collector.explorer_share)
        shares.append(moment.share.reshape(2, 2).copy())
        assert [e.guide_steps for e in over] == episodes[len(episodes) - len(over) :]
    batch = store.sample(torch.arange(50).expand(2, -1))
    stored = np.stack(shares, 1).reshape(2, 50)
    assert np.array_equal(batch.share.numpy(), stored)
    assert np.array_equal(batch.by_guide.numpy(), stored == 0)
    assert tracker.take()["collect/explorer_share"] == pytest.approx(stored.mean(1).tolist())


def test_who_does_not_act_is_not_asked_unless_the_rule_compares():
    lone, compares = FakeGuide(), FakeGuide()
    run(following(Cycle((1.0, 1.0, 0.0))), 12, FakePolicy(), lone, H)
    run(following(Cycle((1.0, 1.0, 0.0), [GUIDE])), 12, FakePolicy(), compares, H)
    assert compares.rows() == 12 * 4
    assert 0 < lone.rows() < 12 * 4
    assert all(bool(mask.any()) for _, mask in lone.calls)
    never = FakeGuide()
    run(following(Cycle((1.0,))), 12, FakePolicy(), never, H)
    assert never.calls == []


def rule_of(kind, **options):
    return build_arbiter(arbiters[kind].options(kind=kind, **options))


RULES = {
    "cycle": Cycle,
    "cycle that compares": lambda: Cycle(needs=[GUIDE]),
    "roll_in": lambda: rule_of("roll_in", going_on=0.6),
    "coin": lambda: rule_of("coin", schedule_steps=80, commitment=2),
    "roll_back": lambda: rule_of("roll_back", window=1, tolerance=1.0),
    "q2rl": lambda: rule_of("q2rl", commitment=2),
    "monitor": lambda: rule_of(
        *("monitor",), trust="training", episodes=2, window=2, level=0.5, commitment=2
    ),
}


class Values:
    """Critics and a guide that value what is seen and done by its first number."""

    def q(self, observation, action):
        return (observation.vector[..., 0] * action[..., 0]).unsqueeze(1)

    def v(self, observation):
        return observation.vector[..., 1] % 2

    def log_prob_and_entropy(self, observation, action):
        return -action[..., 0], action[..., 0] / 2


@pytest.mark.parametrize("cut", [1, 11, 20])
@pytest.mark.parametrize("name", RULES)
def test_a_run_goes_on_in_the_middle_of_episodes_as_if_nothing_had_happened(name, cut):
    """With a guide with memory, which has to be shown again what it was asked in."""

    def start():
        return following(RULES[name]()), FakeGuide(stateful=True)

    collector, guide = start()
    run(collector, cut, FakePolicy(), guide, H)
    state = through_a_file(collector.state_dict())
    expected, episodes = run(collector, 25, FakePolicy(), guide, H)
    resumed, fresh = start()
    assert resumed.load_state_dict(state, fresh) == []
    rows, again = run(resumed, 25, FakePolicy(), fresh, H)
    assert_equal(rows, expected)
    assert again == episodes


@pytest.mark.parametrize("name", RULES)
def test_a_seed_collects_bitwise_the_same_alone_and_in_company(name):
    rows = run(following(RULES[name](), (3, 8)), 30, FakePolicy(), FakeGuide(noise=0.2), H)[0]
    for index, seed in enumerate((3, 8)):
        collector = following(RULES[name](), (seed,))
        alone = run(collector, 30, FakePolicy(), FakeGuide(noise=0.2), H[index : index + 1])[0]
        assert_equal(alone, rows[:, index : index + 1])


def test_the_handover_as_a_rule_is_the_handover_by_the_clock():
    """``decide`` of it is what commitment and a user's own rule go by."""

    class Slow(Rule):
        decide = Handover.decide

    rows, episodes = run(following(Handover()), 30, FakePolicy(), FakeGuide(stateful=True), H)
    slow, again = run(following(Slow()), 30, FakePolicy(), FakeGuide(stateful=True), H)
    assert_equal(rows, slow)
    assert episodes == again


def test_where_h_alone_is_to_count_the_rule_is_not_asked():
    collector = following(Cycle((1.0,)))
    collector.guide_alone = True
    throughout = [FixedSteps(fakes.TIME_LIMIT)] * 2
    rows, episodes = run(collector, 12, FakePolicy(), FakeGuide(), throughout)
    assert rows.by_guide.all()
    assert all(episode.guide_steps == episode.length for episode in episodes)
    collector.guide_alone = False
    assert not run(collector, 3, FakePolicy(), FakeGuide(), throughout)[0].by_guide.any()


def test_a_rule_learns_nothing_of_episodes_in_which_the_guide_acted_alone():
    """Nor of the one that was under way when the guide's steps were over."""
    collector = following(Cycle((1.0,)), settings=counting(lengths=(4, 4)))
    throughout = [FixedSteps(fakes.TIME_LIMIT)] * 2

    def ended(steps):
        run(collector, steps, FakePolicy(), FakeGuide(), throughout)
        return collector.arbiter_in_force().seeds["ended"].tolist()

    collector.guide_alone = True
    assert ended(10) == [0, 0]
    collector.guide_alone = False
    assert ended(3) == [0, 0]  # the third episode of each environment had begun without the rule
    assert ended(8) == [4, 4]


def make_evaluator(num_envs=2):
    environments = Environments(counting(), 2 * num_envs)
    streams = Streams([0, 1]).child("evaluator")
    return Evaluator(environments, describe_env(counting()), streams, CPU)


def test_the_combined_policy_goes_by_the_rule_and_the_others_do_not():
    steps = np.zeros((2, 6), np.int64)
    results = {}
    for name, rule in (("guide", Cycle((0.0,))), ("explorer", Cycle((1.0,))), ("none", None)):
        arbiter = None if rule is None else ArbiterInForce(rule)
        modes = ("guide", "combined", "exploration")
        policies = (FakePolicy(), FakeGuide())
        results[name] = evaluate_modes(make_evaluator(), modes, *policies, steps, "k", arbiter)
        played = modes_to_play(modes, policies[1], steps, arbiter)
        assert ("combined" in played) == (rule is not None)
    first = results["guide"]
    assert np.array_equal(first["combined"].returns, first["guide"].returns)
    assert not np.array_equal(first["combined"].returns, first["exploration"].returns)
    for mode in ("guide", "exploration"):
        for other in ("explorer", "none"):
            assert np.array_equal(first[mode].returns, results[other][mode].returns)
    alone = results["explorer"]
    assert np.array_equal(alone["combined"].returns, alone["exploration"].returns)


def test_an_evaluation_begins_with_what_was_learnt_and_teaches_nothing():
    steps, seen = np.zeros((2, 5), np.int64), []

    class Watched(Cycle):
        def decide(self, moment, state, streams):
            seen.append((state.seeds["ended"].tolist(), moment.step, moment.explores))
            return super().decide(moment, state, streams)

    arbiter = ArbiterInForce(Watched(), None, {"ended": torch.tensor([4, 7])}, 123)
    make_evaluator().evaluate(FakePolicy(), FakeGuide(), steps, "k", arbiter)
    assert len(seen) > 5
    assert all(entry == ([4, 7], 123, False) for entry in seen)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (torch.full((2, 2), 1.5), "shares from 1.5 to 1.5"),
        (torch.zeros(4), r"shape \(2, 2\)"),
        (0.5, "decided float"),
    ],
)
def test_a_rule_that_answers_no_shares_is_refused_in_one_line(answer, says):
    class Wrong(Rule):
        def decide(self, moment, state, streams):
            return answer, state

    with pytest.raises(UserError, match=says) as error:
        run(following(Wrong()), 1, FakePolicy(), FakeGuide(), H)
    assert "Wrong" in str(error.value)


def test_choices_are_never_mixed_and_nan_leaves_the_explorer_to_act():
    choosing = EnvSettings(fakes.CHOOSING, {"lengths": (3, 7)})
    policy, guide = FakePolicy(chooses=True), FakeGuide(chooses=True)
    with pytest.raises(UserError, match="choices cannot be mixed"):
        run(following(Cycle((0.5,)), settings=choosing), 1, policy, guide, H)
    alternating = following(Cycle((0.0, 1.0)), settings=choosing)
    rows, _ = run(alternating, 8, policy, guide, H)
    assert (rows.action[rows.by_guide] == 3).all() and 0 < rows.by_guide.float().mean() < 1
    rows, _ = run(following(Cycle((torch.nan,))), 4, FakePolicy(), FakeGuide(), H)
    assert not rows.by_guide.any()
