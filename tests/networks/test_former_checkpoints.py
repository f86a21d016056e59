"""Checkpoints of earlier versions tell their environment by a layout and bounds."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bounded import BOUNDS, ID, LIMIT, overrides
from small_runs import train_here

import jsrl
from jsrl.core.checkpoint import newest_checkpoint
from jsrl.core.specs import ObservationSpec, VectorPart
from jsrl.networks.deployment import ActionUnits, Deployment
from jsrl.run.saved_export import export_run

BOUND = {"id": "Former-v0", "action_low": [-1.0, 0.0], "action_high": [2.0, 1.0]}


@pytest.mark.parametrize(
    ("told", "parts", "shape"),
    [
        (
            {"layout": [["observation", 0, 3]], "action_shape": [2], "observation_shapes": [[3]]},
            (VectorPart((), (3,)),),
            [2],
        ),
        (
            {"layout": [["observation", 0, 6]], "action_shape": [2, 1]}
            | {"observation_shapes": [[2, 3]]},
            (VectorPart((), (2, 3)),),
            [2, 1],
        ),
        (
            {"layout": [["clock", 0, 2], ["state", 2, 5]], "action_shape": None}
            | {"observation_shapes": [[1, 2], [3]]},
            (VectorPart(("clock",), (1, 2)), VectorPart(("state",), (3,))),
            [2],
        ),
        (
            {"layout": [["clock", 0, 2], ["state", 2, 5]], "observation_shapes": None},
            (VectorPart(("clock",), (2,)), VectorPart(("state",), (3,))),
            [2],
        ),
    ],
    ids=["flat", "matrices", "dictionary", "without shapes"],
)
def test_an_entry_without_specs_gives_a_deployment(
    told: dict[str, Any], parts: tuple[VectorPart, ...], shape: list[int]
) -> None:
    expected = ActionUnits([-1.0, 0.0], [2.0, 1.0], shape)
    assert Deployment.of(BOUND | told) == Deployment("Former-v0", ObservationSpec(parts), expected)


def test_a_run_of_the_version_before_acts_and_is_exported_as_ever(tmp_path: Path) -> None:
    train_here(
        tmp_path / "run", *overrides("matrix", dictionary=True), "guide=none", "curriculum=none",
        "dataset=none", "online.steps=80", f"env.max_episode_steps={LIMIT}",
    )  # fmt: skip
    rng = np.random.default_rng(0)
    batch = {"clock": rng.uniform(0, 8, (6, 1, 2)), "state": rng.uniform(-1, 1, (6, 3))}
    actions, _ = jsrl.load_policy(tmp_path / "run", seed=0).predict(batch)
    export_run(tmp_path / "run", tmp_path / "now")

    path = newest_checkpoint(tmp_path / "run")
    state = torch.load(path, weights_only=True)
    low, high, shape = BOUNDS["matrix"]
    state["environment"] = {
        "id": ID,
        "observation_size": 5,
        "action_size": 4,
        "layout": [["clock", 0, 2], ["state", 2, 5]],
        "action_low": state["environment"]["action_low"],
        "action_high": state["environment"]["action_high"],
        "action_shape": shape,
        "observation_shapes": [[1, 2], [3]],
    }
    np.testing.assert_allclose(state["environment"]["action_low"], low)
    np.testing.assert_allclose(state["environment"]["action_high"], high)
    torch.save(state, path)
    again, _ = jsrl.load_policy(tmp_path / "run", seed=0).predict(batch)
    assert again.shape == (6, 2, 2)
    assert np.array_equal(again, actions)
    export_run(tmp_path / "run", tmp_path / "former")
    rows = torch.from_numpy(np.concatenate([batch["clock"].reshape(6, 2), batch["state"]], 1))
    for folder in ("now", "former"):
        module = torch.jit.load(tmp_path / folder / "exploration_seed0.torchscript.pt")
        np.testing.assert_allclose(module(rows).numpy(), actions, atol=1e-5)
