"""Curricula: the stages, and when the next one begins."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from jsrl.core.errors import UserError
from jsrl.core.streams import Streams
from jsrl.jumpstart.curricula import (
    ConstantCurriculum,
    JumpStartCurriculum,
    RandomCurriculum,
    curriculum_state,
    restore_curriculum,
    stage_steps,
)


@given(h1=st.integers(0, 2000), n=st.integers(1, 50))
def test_stages_follow_the_papers_formula_and_end_in_zero(h1, n):
    steps = stage_steps(h1, n)
    assert len(steps) == n
    assert steps[-1] == 0
    for k, h in enumerate(steps, start=1):
        exact = h1 - Fraction(k * h1, n)
        assert abs(h - exact) <= Fraction(1, 2)
    assert all(a >= b for a, b in itertools.pairwise(steps))


def test_stages_of_a_worked_example():
    assert stage_steps(100, 10) == (90, 80, 70, 60, 50, 40, 30, 20, 10, 0)
    assert stage_steps(7, 2) == (4, 0)  # 3.5, rounded half up
    assert stage_steps(50, 1) == (0,)


@pytest.mark.parametrize(("h1", "n", "key"), [(10, 0, "stages"), (-1, 3, "initial_guide_steps")])
def test_impossible_stages_are_refused(h1, n, key):
    with pytest.raises(UserError, match=f"curriculum.{key}"):
        stage_steps(h1, n)


def oracle(evaluations, window, tolerance, minimum, guide_score, stages):
    """The stage after each evaluation, by the rule in words, recomputed from scratch every time.

    Advance when the window is full within this stage and its mean is at least
    best - tolerance·|best|. Best is the maximum over earlier full windows of all stages, starting
    at the guide's own score, never reset. Below the minimum nothing advances.
    """
    trace, stage, began, full_window_means = [], 0, 0, [guide_score]
    usable = []
    for value in evaluations:
        if math.isnan(value) or math.isinf(value):
            trace.append(stage)
            continue
        usable.append(value)
        within_stage = usable[began:]
        if len(within_stage) >= window:
            mean = math.fsum(within_stage[-window:]) / window
            best = max(full_window_means)
            bound = best - tolerance * abs(best)
            full_window_means.append(mean)
            if mean >= bound and mean >= minimum and stage < stages - 1:
                stage += 1
                began = len(usable)
        trace.append(stage)
    return trace


SCORES = st.one_of(
    st.floats(-300, 100, allow_nan=False),
    st.sampled_from([0.0, 0.5, 1.0, -100.0, -105.0, -95.0, math.nan, math.inf, -math.inf]),
)


@settings(max_examples=300)
@given(
    evaluations=st.lists(SCORES, max_size=40),
    window=st.integers(1, 5),
    tolerance=st.sampled_from([0.0, 0.05, 0.15, 0.5]),
    minimum=st.sampled_from([-math.inf, -100.0, 0.0, 0.3]),
    guide_score=st.sampled_from([-200.0, -100.0, 0.0, 0.5, 1.0]),
    stages=st.integers(1, 6),
)
def test_the_curriculum_advances_exactly_when_the_rule_in_words_says_so(
    evaluations, window, tolerance, minimum, guide_score, stages
):
    curriculum = JumpStartCurriculum(
        stage_steps(100, stages), window, tolerance, minimum, best=guide_score
    )
    trace, began_at = [], []
    for step, value in enumerate(evaluations):
        before = curriculum.stage
        curriculum = curriculum.advance(value, step)
        trace.append(curriculum.stage)
        if curriculum.stage != before:
            began_at.append(step)
    assert trace == oracle(evaluations, window, tolerance, minimum, guide_score, stages)
    assert curriculum.advanced_at == tuple(began_at)
    assert curriculum.guide_steps(Streams([0])) == stage_steps(100, stages)[curriculum.stage]


def run(curriculum, *evaluations):
    for step, value in enumerate(evaluations):
        curriculum = curriculum.advance(value, step)
    return curriculum


THREE = stage_steps(30, 3)


def test_the_window_restarts_when_a_stage_begins():
    curriculum = run(JumpStartCurriculum(THREE, window=2, best=0.5), 0.6, 0.6)
    assert curriculum.stage == 1
    assert curriculum.evaluations == ()
    # One more good evaluation is not a window of this stage.
    assert run(curriculum, 0.9).stage == 1
    assert run(curriculum, 0.9, 0.9).stage == 2


def test_the_best_is_never_reset():
    curriculum = run(JumpStartCurriculum(THREE, window=1, tolerance=0.0, best=0.2), 0.9)
    assert (curriculum.stage, curriculum.best) == (1, 0.9)
    assert run(curriculum, 0.5, 0.8).stage == 1
    assert run(curriculum, 0.5, 0.9).stage == 2


def test_the_guides_own_score_is_the_first_best():
    assert run(JumpStartCurriculum(THREE, window=1, tolerance=0.0, best=0.7), 0.69).stage == 0
    assert run(JumpStartCurriculum(THREE, window=1, tolerance=0.0, best=0.7), 0.7).stage == 1


def test_a_window_does_not_count_into_the_best_that_it_is_compared_with():
    # With tolerance 0 and the mean in the best, every mean above the old best would need itself.
    curriculum = JumpStartCurriculum(THREE, window=1, tolerance=0.0, best=-math.inf)
    assert run(curriculum, -5.0).stage == 1


def test_a_tolerance_widens_downwards_from_a_negative_best():
    curriculum = JumpStartCurriculum(THREE, window=1, tolerance=0.1, best=-100.0)
    assert run(curriculum, -109.0).stage == 1
    assert run(curriculum, -111.0).stage == 0


def test_below_the_minimum_nothing_advances():
    curriculum = JumpStartCurriculum(THREE, window=1, minimum=0.3, best=0.0)
    assert run(curriculum, 0.29).stage == 0
    assert run(curriculum, 0.3).stage == 1


def test_an_evaluation_that_is_not_finite_never_advances_a_stage():
    curriculum = JumpStartCurriculum(THREE, window=2, best=0.0)
    for value in (math.nan, math.inf, -math.inf):
        assert run(curriculum, *[value] * 10) == curriculum
        assert run(curriculum, 1.0, value).stage == 0


def test_the_last_stage_is_kept():
    curriculum = run(JumpStartCurriculum(THREE, window=1, best=0.0), *[1.0] * 10)
    assert curriculum.stage == 2
    assert curriculum.guide_steps(Streams([0])) == 0


def test_advancing_leaves_the_old_curriculum_as_it_was():
    curriculum = JumpStartCurriculum(THREE, window=1, best=0.0)
    curriculum.advance(1.0, 5)
    assert curriculum == JumpStartCurriculum(THREE, window=1, best=0.0)


@pytest.mark.parametrize(
    ("changes", "key"),
    [({"window": 0}, "window"), ({"tolerance": -0.1}, "tolerance"), ({"tolerance": math.nan}, "t")],
)
def test_impossible_settings_are_refused(changes, key):
    with pytest.raises(UserError, match=f"curriculum.{key}"):
        JumpStartCurriculum(THREE, **changes)


def test_random_guide_steps_are_uniform_over_the_stages():
    curriculum = RandomCurriculum(stage_steps(100, 5))
    streams = Streams([3])
    drawn = [curriculum.guide_steps(streams.child("episode", 0, i)) for i in range(2000)]
    values, counts = np.unique(drawn, return_counts=True)
    assert values.tolist() == [0, 20, 40, 60, 80]
    assert stats.chisquare(counts).pvalue > 1e-3


def test_random_guide_steps_depend_on_environment_and_episode_alone():
    curriculum = RandomCurriculum(tuple(range(1000)))
    streams = Streams([3])
    first = curriculum.guide_steps(streams.child("episode", 1, 7))
    streams.child("episode", 1, 6).integers("guide_steps", 1000, ())
    assert curriculum.guide_steps(streams.child("episode", 1, 7)) == first
    assert curriculum.guide_steps(streams.child("episode", 2, 7)) != first
    assert curriculum.guide_steps(streams.child("episode", 1, 8)) != first
    assert curriculum.advance(1.0, 5) == curriculum


def test_a_constant_curriculum_never_moves_and_none_is_zero():
    assert run(ConstantCurriculum(12), 1.0, 5.0) == ConstantCurriculum(12)
    assert ConstantCurriculum(12).guide_steps(Streams([0])) == 12
    assert ConstantCurriculum().guide_steps(Streams([0])) == 0


@pytest.mark.parametrize(
    "curriculum",
    [
        run(JumpStartCurriculum(THREE, window=2, best=0.1), 0.5, 0.5, 0.7, math.nan),
        RandomCurriculum((3, 0)),
        ConstantCurriculum(4),
    ],
)
def test_a_curriculum_survives_its_plain_values(curriculum):
    state = curriculum_state(curriculum)
    fresh = type(curriculum)(steps=4 if isinstance(curriculum, ConstantCurriculum) else (1, 0))
    assert restore_curriculum(fresh, state) == curriculum
    assert not any(isinstance(value, tuple) for value in state.values())
