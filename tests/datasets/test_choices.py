"""Data whose actions are choices: whose numbers they are, and what is refused."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from small_runs import train_here
from specs import box_spec, vector

from jsrl.core.errors import UserError
from jsrl.core.specs import DiscreteActions, EnvSpec
from jsrl.datasets import load_hdf5, save_hdf5
from jsrl.datasets.dataset import Dataset, make_dataset

SPEC = EnvSpec("Choosing-v0", vector(2), DiscreteActions(3, start=5), 100)
GIVEN = np.array([5, 7, 6, 6, 5, 7])


def arrays(actions: Any) -> dict[str, np.ndarray]:
    """A walk of six steps, with these actions."""
    places = np.cumsum(np.ones((7, 2)), 0)
    return {
        "observations": places[:-1],
        "next_observations": places[1:],
        "actions": np.asarray(actions),
        "rewards": np.zeros(6),
        "terminals": np.zeros(6, bool),
        "timeouts": np.arange(6) == 5,
    }


def made(actions: Any, **options: Any) -> Dataset:
    return make_dataset(arrays(actions), "mine.hdf5", **{"spec": SPEC, **options})


@pytest.mark.parametrize("given", [GIVEN, GIVEN[:, None], GIVEN.astype(np.float64)])
def test_choices_are_the_environments_and_are_numbered_from_0(given: np.ndarray) -> None:
    dataset = made(given)
    assert dataset.data.actions.dtype == np.int64
    assert dataset.data.actions.tolist() == [0, 2, 1, 1, 0, 2]
    assert dataset.chooses and dataset.action_size == 1
    assert "choices" in dataset.summary()
    dataset.validate(SPEC)


def test_a_file_of_the_package_keeps_its_numbers(tmp_path: Path) -> None:
    path = tmp_path / "own.hdf5"
    save_hdf5(path, made(GIVEN).data, {}, {})
    assert load_hdf5(path, spec=SPEC).data.actions.tolist() == [0, 2, 1, 1, 0, 2]
    with h5py.File(path) as file:
        assert file.attrs["action_units"] == "normalised"


def test_without_an_environment_whole_numbers_of_one_axis_are_choices() -> None:
    dataset = made(GIVEN - 5, spec=None)
    assert dataset.chooses and dataset.data.actions.tolist() == [0, 2, 1, 1, 0, 2]
    assert not made(np.full((6, 1), 0.5), spec=None).chooses


@pytest.mark.parametrize(
    ("actions", "options", "words"),
    [
        (GIVEN + 1, {}, "actions holds 8 at index 1; expected 5 to 7"),
        (GIVEN - 1, {}, "actions holds 4 at index 0; expected 5 to 7"),
        (GIVEN + 0.5, {}, "actions holds 5.5 at index 0; expected whole numbers"),
        (np.stack([GIVEN, GIVEN], 1), {}, "actions has shape [6, 2]; expected one whole number"),
        (GIVEN, {"action_low": 0, "action_high": 1}, "there is no range"),
    ],
)
def test_what_cannot_be_a_choice_is_refused(
    actions: np.ndarray, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError) as caught:
        made(actions, **options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_choices_do_not_fit_an_environment_of_real_actions_nor_the_other_way() -> None:
    real = box_spec("Real-v0", 2, (-1.0,), (1.0,), 100)
    with pytest.raises(UserError, match="its actions are choices, but environment 'Real-v0'"):
        made(GIVEN).validate(real)
    with pytest.raises(UserError, match="are real numbers, but environment 'Choosing-v0'"):
        made(np.full((6, 1), 0.5), spec=real).validate(SPEC)


def test_what_was_read_without_the_environment_is_held_against_it() -> None:
    with pytest.raises(UserError, match="read as if they began with 0, but those of Choosing-v0"):
        made(np.array([0, 1, 2, 1, 0, 2]), spec=None).validate(SPEC)
    with pytest.raises(UserError, match="it has the choice 3, but environment 'Choosing-v0'"):
        made(np.array([0, 1, 3, 1, 0, 2]), spec=None, action_units="normalised").validate(SPEC)
    with pytest.raises(UserError, match="actions has type <U3; expected numbers"):
        made(np.array(["one"] * 6))


def test_choices_are_cloned_from_a_file_and_jumped_from(tmp_path: Path) -> None:
    pole = ("env=gymnasium", "env.id=CartPole-v1", "env.success_key=null")
    (tmp_path / "pole.py").write_text(
        "def act(observations):\n    return (observations[:, 2] > 0).astype(int)\n"
    )
    target = f"{tmp_path / 'pole.py'}:act"
    clone = train_here(
        tmp_path / "clone", *pole, "dataset=python", f"dataset.target={target}", "learner=bc",
        "guide=offline", "curriculum=none", "start=warm", "online.steps=0",
    )  # fmt: skip
    assert clone["failed_seeds"] == []
    jump = train_here(
        tmp_path / "jump", *pole, "dataset=d4rl", "learner=dqn", "guide=run", "curriculum=jsrl",
        f"dataset.path={tmp_path / 'clone' / 'dataset.hdf5'}", "curriculum.metric=return",
        f"guide.path={tmp_path / 'clone'}",
    )  # fmt: skip
    assert jump["failed_seeds"] == []
