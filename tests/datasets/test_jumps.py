"""Which transitions lead implausibly far, and what is sudden without being a jump."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from jsrl.datasets.jumps import Jumps, find_jumps
from jsrl.envs.make import EnvSettings, make_env

DOOR_HUMAN = Path(__file__).parents[2] / "../shared/data/adroit_door_human.hdf5"
Array = NDArray[np.float32]


def walks(
    count: int, length: int, size: float = 1.0, apart: float = 10.0, columns: int = 2, seed: int = 0
) -> Array:
    """Random walks with steps of ``size``, that begin uniformly within ``apart`` of zero."""
    draws = np.random.default_rng(seed)
    starts = draws.uniform(-apart, apart, (count, 1, columns))
    steps = size * draws.normal(size=(count, length, columns))
    return (starts + steps.cumsum(1)).reshape(-1, columns).astype(np.float32)


def found_in(observations: Array, ends: NDArray[np.bool_] | None = None) -> Jumps | None:
    """The jumps between each row and the next, those after a known end left out."""
    counted = np.ones(len(observations), bool) if ends is None else ~ends
    counted[-1] = False
    return find_jumps(observations, np.roll(observations, -1, axis=0), counted)


def ends_of(count: int, length: int) -> NDArray[np.bool_]:
    return np.arange(count * length) % length == length - 1


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e5])
@pytest.mark.parametrize(("count", "length"), [(2, 300), (5, 100), (60, 20), (300, 12)])
def test_every_jump_from_walk_to_walk_is_found_in_any_unit(
    count: int, length: int, unit: float
) -> None:
    observations = walks(count, length, size=0.01 * unit, apart=50 * unit)
    ends = ends_of(count, length)
    found = found_in(observations)
    assert found is not None
    expected = ends.copy()
    expected[-1] = False
    assert (found.where & ~expected).sum() == 0
    # Two walks may begin beside each other.
    assert found.where.sum() >= 0.95 * expected.sum()
    assert set(found.columns) == {0, 1}
    first = int(np.argmax(found.where))
    step = np.abs(observations[first + 1] - observations[first])
    assert found.size == pytest.approx(step[found.column], rel=1e-4)
    assert 0.015 * unit < found.ordinary < 0.05 * unit
    assert found_in(observations, ends) is None


def test_a_column_of_small_units_is_seen_beside_one_of_large_units() -> None:
    observations = np.concatenate(
        [walks(10, 50, size=1e-8, apart=1e-6), 1e4 * walks(1, 500, columns=3)], axis=1
    )
    found = found_in(observations)
    assert found is not None and set(found.columns) == {0, 1}
    assert found.where.sum() >= 8


def test_only_rows_that_count_are_looked_at() -> None:
    observations = walks(5, 100, size=0.01)
    assert found_in(observations, ends_of(5, 100)) is None
    assert find_jumps(observations[:10], observations[1:11], np.ones(10, bool)) is None


SIZE = 4000


def ordinary_columns() -> dict[str, Array]:
    """Columns that move suddenly and yet as they should."""
    draws = np.random.default_rng(3)
    time = np.arange(SIZE)
    normal = draws.normal(size=SIZE)
    heights, velocities = bouncing_ball()
    heading = np.cumsum(0.2 + 0.02 * normal)
    quaternion = np.cos(heading / 2) * np.where(draws.uniform(size=SIZE) < 0.01, -1, 1)
    goal = np.repeat(draws.uniform(-5, 5, SIZE // 40), 40)
    pushed = np.zeros(SIZE)
    pushed[1500:1520] = np.linspace(0, 0.3, 20)
    pushed[1520:] = 0.3
    return {
        "constant": np.full(SIZE, 3.0),
        "discrete": draws.integers(0, 3, SIZE).astype(float),
        "flag that is seldom set": (draws.uniform(size=SIZE) < 0.01).astype(float),
        "goal that is drawn anew": goal,
        "object that is pushed once": pushed,
        "the same with noise": pushed + 1e-6 * normal,
        "Student's t with 3 degrees": np.cumsum(draws.standard_t(3, SIZE)),
        "Student's t with 2 degrees": np.cumsum(draws.standard_t(2, SIZE)),
        "log-normal": np.cumsum(draws.lognormal(0, 1.5, SIZE) * np.sign(normal)),
        "exponential": np.cumsum(draws.exponential(size=SIZE)),
        "sine": np.sin(time / 20),
        "angle that comes round": np.arctan2(np.sin(heading), np.cos(heading)),
        "angle in degrees": np.degrees(heading) % 360,
        "quaternion that changes sign": quaternion,
        "height of a ball": heights,
        "white noise": normal,
        "velocity of a ball": velocities,
    }


def bouncing_ball() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    height, velocity = 1.0, 0.0
    heights, velocities = [], []
    for _ in range(SIZE):
        velocity -= 0.01
        height += 0.02 * velocity
        if height < 0:
            height, velocity = -height, -velocity
        heights.append(height)
        velocities.append(velocity)
    return np.array(heights), np.array(velocities)


@pytest.mark.parametrize("name", ordinary_columns())
def test_what_is_sudden_in_a_simulation_is_no_jump(name: str) -> None:
    column = ordinary_columns()[name][:, None].astype(np.float32)
    assert found_in(column) is None
    assert found_in(np.concatenate([column, walks(1, SIZE)], axis=1)) is None


def test_velocities_that_turn_at_a_contact_are_no_jumps_and_resets_are() -> None:
    heights, velocities = bouncing_ball()
    # Loses a part of its velocity at each contact, so that it does not merely change sign.
    damped = np.where(velocities > 0, 0.6 * velocities, velocities)
    observations = np.stack([heights, damped], 1).astype(np.float32)
    assert found_in(observations) is None
    apart = observations.copy()
    apart[:, 0] += np.repeat([0.0, 40.0, -30.0, 80.0], 1000)
    found = found_in(apart)
    assert found is not None
    assert np.flatnonzero(found.where).tolist() == [999, 1999, 2999]


def collected(env_id: str, steps: int, limit: int) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Observations, successors and ends of episodes under smooth random actions."""
    draws = np.random.default_rng(0)
    env = make_env(EnvSettings(env_id, max_episode_steps=limit))
    rows, ended, action = [], True, np.zeros(env.action_space.shape)
    for step in range(steps):
        if ended:
            observation, _ = env.reset(seed=step)
        action = 0.9 * action + 0.3 * draws.normal(size=action.shape)
        successor, _, terminated, truncated, _ = env.step(np.clip(action, -1, 1).astype(np.float32))
        ended = terminated or truncated
        rows.append((observation, successor, ended))
        observation = successor
    env.close()
    observations, successors, ends = map(np.array, zip(*rows, strict=True))
    return observations.astype(np.float32), successors.astype(np.float32), ends


@pytest.mark.parametrize("env_id", ["PointMaze_Large-v3", "AdroitHandDoor-v1", "Hopper-v5"])
@pytest.mark.filterwarnings("ignore")
def test_simulated_robots_do_not_jump_until_their_flags_are_lost(env_id: str) -> None:
    observations, successors, ends = collected(env_id, 900, 100)
    assert find_jumps(observations, successors, np.ones(len(ends), bool)) is None
    assert found_in(observations, ends) is None
    found = found_in(observations)
    assert found is not None
    assert found.where.sum() >= 0.6 * ends[:-1].sum()
    assert (found.where & ~ends).sum() <= 0.1 * found.where.sum()


@pytest.mark.parametrize("beside", [-1, 1])
def test_the_fastest_step_of_a_fast_movement_is_no_jump(beside: int) -> None:
    count, length = 25, 40
    ends = ends_of(count, length)
    draws = np.random.default_rng(0)
    steps = draws.uniform(-1, 1, count * length)
    steps[ends] = 10 * draws.choice([-1.5, 1.5], count)
    steps[4::10] = np.geomspace(1.0, 3.9, 100)
    steps[28:228:length] = (4.2, 4.4, 4.6, 4.8, 5.0)
    steps[510], steps[510 + beside] = 8.0, 5.5
    observations = (steps.cumsum() - steps)[:, None].astype(np.float32)
    found = found_in(observations)
    assert found is not None
    assert np.flatnonzero(found.where).tolist() == np.flatnonzero(ends[:-1]).tolist()


@pytest.mark.skipif(not DOOR_HUMAN.exists(), reason="the door demonstrations are not beside us")
def test_human_demonstrations_do_not_jump_until_their_flags_are_out_of_step() -> None:
    with h5py.File(DOOR_HUMAN) as file:
        observations = file["observations"][()].astype(np.float32)
        ends = file["timeouts"][()] | file["terminals"][()]
    assert found_in(observations, ends) is None
    inside = ends[:-1].sum()
    for shift in (-1, 1):
        found = found_in(observations, np.roll(ends, shift))
        assert found is not None
        assert (found.where & ends).sum() >= 0.8 * inside
        assert (found.where & ~ends).sum() == 0
