"""Exported policies of choices and of images, run without this package."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from specs import vector

from jsrl.core.observations import Observation
from jsrl.core.specs import ImagePart, ObservationSpec
from jsrl.networks.categorical import CategoricalPolicy
from jsrl.networks.deployment import ActionUnits, ChoiceUnits, Units
from jsrl.networks.encoders.drq import DrqOptions
from jsrl.networks.export import export_policy
from jsrl.networks.policies import GaussianPolicy

CHOICES = ChoiceUnits(5, -2)
BOX = ActionUnits([-2.0, 0.0], [2.0, 3.0], [2])
IMAGES = (
    ImagePart(("cameras", 0), (16, 18, 3), (2, 0, 1), (3, 16, 18)),
    ImagePart(("cameras", 1), (17, 16), None, (1, 17, 16)),
    ImagePart(("front",), (2, 15, 20, 3), (0, 3, 1, 2), (6, 15, 20)),
)


def drawn(policy: Any) -> Any:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator))
    return policy


def torchscript(path: str, batches: Sequence[Sequence[np.ndarray]]) -> list[np.ndarray]:
    """What a process without this package makes of each batch of inputs."""
    folder = Path(path).parent
    for number, inputs in enumerate(batches):
        np.savez(folder / f"inputs{number}.npz", *inputs)
    program = (
        "import sys; import numpy, torch; module = torch.jit.load(sys.argv[1])\n"
        "for number in range(int(sys.argv[2])):\n"
        "    given = numpy.load(f'inputs{number}.npz')\n"
        "    given = [torch.from_numpy(given[name]) for name in given.files]\n"
        "    numpy.save(f'answer{number}.npy', module(*given).numpy())\n"
        "assert 'jsrl' not in sys.modules"
    )
    command = [sys.executable, "-c", program, path, str(len(batches))]
    subprocess.run(command, check=True, cwd=folder)
    return [np.load(folder / f"answer{number}.npy") for number in range(len(batches))]


@pytest.mark.parametrize("units", [CHOICES, None], ids=["environment", "normalised"])
def test_files_of_a_policy_of_choices_give_the_environments_numbers(
    tmp_path: Path, units: Units | None
) -> None:
    made = drawn(CategoricalPolicy(3, 6, 5, (16,)))
    result = export_policy(made, 1, tmp_path / "p", units=units)
    assert result["max_error"] == {"torchscript": 0, "onnx": 0}
    rows = np.random.default_rng(0).normal(0, 2, (40, 6)).astype(np.float32)
    # The same network in NumPy alone.
    weights = {name: value[1].numpy() for name, value in made.mlp.state_dict().items()}
    hidden = np.maximum(rows @ weights["hidden_0.weight"] + weights["hidden_0.bias"], 0)
    logits = hidden @ weights["output.weight"] + weights["output.bias"]
    first = 0 if units is None else -2
    right = first + logits.argmax(-1)
    assert len(set(right.tolist())) > 2
    session = onnxruntime.InferenceSession(result["onnx"])
    module = torch.jit.load(result["torchscript"])
    batches = [rows[:count] for count in (1, 40)]
    elsewhere = torchscript(result["torchscript"], [[given] for given in batches])
    for given, theirs in zip(batches, elsewhere, strict=True):
        for found in (
            session.run(None, {"observation": given})[0],
            theirs,
            module(torch.from_numpy(given).double()).numpy(),
        ):
            assert found.dtype == np.int64
            assert found.tolist() == right[: len(given)].tolist()
    for index in (0, 7):
        for found in (
            session.run(None, {"observation": rows[index]})[0],
            module(torch.from_numpy(rows[index])).numpy(),
        ):
            assert found.shape == () and found.dtype == np.int64
            assert found == right[index]
    described = json.loads((tmp_path / "p.json").read_text())
    assert described["choices"] == [first, first + 4]
    assert described["units"] == ("normalised" if units is None else "environment")
    assert "int64" in described["output"]
    assert "action_low" not in described


@pytest.mark.parametrize("numbers", [3, 0])
@pytest.mark.parametrize("units", [BOX, CHOICES], ids=["box", "choices"])
def test_files_of_a_policy_of_images_take_them_as_the_environment_gives_them(
    tmp_path: Path, units: Units, numbers: int
) -> None:
    spec = ObservationSpec(vector(numbers).vector if numbers else (), IMAGES)
    chooses = isinstance(units, ChoiceUnits)
    cls: Any = CategoricalPolicy if chooses else GaussianPolicy
    made = drawn(
        cls(
            *(2, numbers, 5 if chooses else 2, (8,)),
            images=spec.image_shapes,
            encoder=DrqOptions(kind="drq", channels=4, features=5),
        )
    )
    result = export_policy(made, 1, tmp_path / "p", units=units, observation=spec)
    assert max(result["max_error"].values()) <= 1e-5

    rng = np.random.default_rng(0)
    rows = rng.normal(size=(12, numbers)).astype(np.float32)
    last, grey, stack = (rng.integers(0, 256, (12, *p.shape), np.uint8) for p in IMAGES)
    # By hand: channels first, and the frames of a stack one behind the other.
    images = {
        "cameras.0": np.moveaxis(last, -1, 1),
        "cameras.1": grey[:, None],
        "front": np.concatenate([np.moveaxis(stack[:, i], -1, 1) for i in range(2)], 1),
    }
    seen = Observation(torch.from_numpy(rows), {n: torch.tensor(i) for n, i in images.items()})
    answers = made.select(1).mode(seen[None])[0].double().numpy()
    right = answers - 2 if chooses else [-2, 0] + (answers + 1) / 2 * np.array([4.0, 3.0])
    assert len(np.unique(right, axis=0)) > 1

    described = json.loads((tmp_path / "p.json").read_text())
    names = [*(["vector"] if numbers else []), "cameras_0", "cameras_1", "front"]
    assert described["inputs"] == names
    shapes = {"cameras.0": [16, 18, 3], "cameras.1": [17, 16], "front": [2, 15, 20, 3]}
    assert described["image_shapes"] == shapes
    assert described["observation_size"] == numbers
    session = onnxruntime.InferenceSession(result["onnx"])
    assert [given.name for given in session.get_inputs()] == names
    types = ["tensor(float)"] * bool(numbers) + ["tensor(uint8)"] * 3
    assert [given.type for given in session.get_inputs()] == types
    inputs = (*([rows] if numbers else []), last, grey, stack)
    counts = (1, 2, 12)
    batches = [[x[:count] for x in inputs] for count in counts]
    elsewhere = torchscript(result["torchscript"], batches)
    for count, given, theirs in zip(counts, batches, elsewhere, strict=True):
        for found in (session.run(None, dict(zip(names, given, strict=True)))[0], theirs):
            assert found.dtype == (np.int64 if chooses else np.float32)
            assert found.shape == ((count,) if chooses else (count, 2))
            np.testing.assert_allclose(found, right[:count], atol=3e-5)
