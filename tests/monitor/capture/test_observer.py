"""The observer of a collector or an evaluator: what it passes on, and that it changes nothing."""

import numpy as np
import torch
from fakes import FakeGuide
from monitor.observed import ENVS, SEEDS, Watched

from jsrl.monitor.capture.layers import LayerCapture
from jsrl.monitor.capture.observer import STEPS_AT_ONCE
from jsrl.monitor.capture.steps import PHASES, WatchedSteps


def test_every_third_step_of_a_collector_is_passed_on_as_it_was_taken():
    watched = Watched(interval=3)
    watched.collector.observer = watched.observer
    taken = watched.collect(21)
    ended = taken["ended"]
    # How many episodes each environment had ended before each step.
    number = np.cumsum(ended, 0) - ended
    for index, seed in enumerate(SEEDS):
        moments = list(watched.moments(index))
        assert len(moments) == 7
        for place, (steps, layers) in enumerate(moments):
            step = {name: values[3 * place + 2, index] for name, values in taken.items()}
            by_guide = step["by_guide"]
            assert np.array_equal(steps.observations, step["observations"])
            assert np.array_equal(steps.actions, step["actions"])
            # The environment itself observes the time.
            assert steps.time.tolist() == step["observations"][:, 1].tolist()
            assert steps.step.tolist() == [3 * (place + 1) * ENVS] * ENVS
            own = number[3 * place + 2, index]
            assert steps.episode.tolist() == [int(n) * ENVS + env for env, n in enumerate(own)]
            assert [PHASES[i] for i in steps.phase] == [
                "guide" if guided else "exploration" for guided in by_guide
            ]
            assert steps.actor.tolist() == [0 if guided else 1 for guided in by_guide]
            assert steps.stage.tolist() == [3] * ENVS
            assert steps.seed.tolist() == [seed] * ENVS
            alone = watched.policy.select(index)
            said = LayerCapture(alone, ".*").forward(torch.from_numpy(steps.observations)[None])
            for name, values in said.items():
                assert torch.equal(layers[name], values[0])
    phases = WatchedSteps.concatenate(watched.steps[0]).phase
    assert {PHASES[i] for i in phases} == {"guide", "exploration"}
    assert not any(m._forward_hooks for m in watched.policy.modules())


def test_a_collector_takes_bitwise_the_same_steps_with_an_observer():
    bare, watched = Watched(), Watched(interval=2)
    watched.collector.observer = watched.observer
    one, other = bare.collect(30), watched.collect(30)
    assert all(one[name].tobytes() == other[name].tobytes() for name in one)
    assert bare.recorded(0) == {} != watched.recorded(0)


def test_a_share_of_the_episodes_is_recorded_whole_and_the_same_ones_again():
    def episodes(draw, share=0.5):
        watched = Watched(share=share, draw=draw, lengths=(3,))
        watched.collector.observer = watched.observer
        watched.collect(60, guide_steps=0)
        return [watched.recorded(index) for index in range(2)]

    every = episodes(0, 1.0)
    assert [len(found) for found in every] == [40, 40]
    found = episodes(0)
    for own in found:
        assert set(map(tuple, own.values())) == {(0, 1, 2)}
        # Of 40 episodes, half of them on average.
        assert 10 <= len(own) <= 30
    assert found[0].keys() != found[1].keys()
    assert episodes(0) == found
    assert episodes(1) != found
    assert episodes(0, 0.0) == [{}, {}]


def test_an_evaluators_episodes_are_recorded_and_its_results_stay():
    bare, watched = Watched(lengths=(1, 2, 5)), Watched("evaluation", lengths=(1, 2, 5))
    watched.evaluator.observer = watched.observer
    still, results = np.zeros((2, 5), np.int64), []
    for key in (1, 2):
        expected = bare.evaluator.evaluate(bare.policy, None, still, key)
        result = watched.evaluator.evaluate(watched.policy, None, still, key)
        assert np.array_equal(result.returns, expected.returns)
        results.append(result.lengths)
    for index in range(2):
        # Environments that only keep others company are no episode; numbers go on.
        lengths = np.concatenate([result[index] for result in results])
        assert watched.recorded(index) == {i: list(range(n)) for i, n in enumerate(lengths)}
        steps = WatchedSteps.concatenate(watched.steps[index])
        assert {PHASES[i] for i in steps.phase} == {"evaluation"}
        modes = watched.policy.select(index).act(steps.observed[None], None)
        torch.testing.assert_close(torch.from_numpy(steps.actions), modes[0])


def test_a_share_of_an_evaluations_episodes_is_recorded_whole_too():
    watched = Watched("evaluation", share=0.5, lengths=(1, 2, 5))
    watched.evaluator.observer = watched.observer
    # No multiple of the environments, so that some of them only keep the others company.
    result = watched.evaluator.evaluate(watched.policy, None, np.zeros((2, 15), np.int64), 1)
    for index in range(2):
        found = watched.recorded(index)
        assert 2 <= len(found) <= 13
        assert found == {i: list(range(result.lengths[index, i])) for i in found}


def test_what_the_network_says_is_recorded_where_the_guide_acts_alone():
    watched = Watched("evaluation", lengths=(4,))
    watched.evaluator.observer = watched.observer
    watched.evaluator.evaluate(None, FakeGuide(), np.full((2, 2), 9), 1)
    for index in range(2):
        assert watched.recorded(index) == {0: [0, 1, 2, 3], 1: [0, 1, 2, 3]}
        for steps, said in watched.moments(index):
            assert (steps.actions == 0.5).all() and (steps.actor == 0).all()
            alone = LayerCapture(watched.policy.select(index), ".*")
            expected = alone.forward(torch.from_numpy(steps.observations)[None])
            assert all(torch.equal(said[name], expected[name][0]) for name in expected)


def test_an_observer_goes_on_from_its_clocks():
    whole, first, second = (Watched(interval=4) for _ in range(3))
    whole.collector.observer = whole.observer
    whole.collect(18)
    first.collector.observer = first.observer
    first.collect(10)
    second.observer.load_state_dict(first.observer.state_dict())
    first.collector.observer = second.observer
    first.collect(8)
    second.observer.flush()
    whole.observer.flush()
    steps = [step for part in (first, second) for steps in part.steps[0] for step in steps.step]
    assert steps == [step for steps in whole.steps[0] for step in steps.step]
    assert steps == [8, 8, 16, 16, 24, 24, 32, 32]


def test_rows_are_passed_on_by_and_by():
    watched = Watched()
    watched.collector.observer = watched.observer
    watched.collect(STEPS_AT_ONCE - 1)
    assert watched.steps[0] == []
    watched.collect(2)
    assert [len(steps) for steps in watched.steps[0]] == [STEPS_AT_ONCE * ENVS]
