"""Guides from programs that ``torch.export`` writes in the test."""

import copy

import pytest
import torch
from disturbances import STEP, kill, terminate, train_disturbed
from guide_cases import (
    SPEC,
    UNIT,
    act_step_by_step,
    built,
    documented_words,
    episodes,
    example,
    observations,
)
from small_runs import REACH, assert_same_run, call, read_summary, train_here
from torch import nn

from jsrl.core.errors import UserError
from jsrl.guides import GuideView, torch_export_guide


class Tanh(nn.Module):
    def __init__(self, inputs=5, scale=1.0):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(inputs, 2)
        self.scale = scale

    def forward(self, x):
        return self.scale * torch.tanh(self.linear(x))


class Recurrent(nn.Module):
    """Two states, of which one is a number."""

    def __init__(self, inputs=5):
        super().__init__()
        torch.manual_seed(0)
        self.cell = nn.GRUCell(inputs, 4)
        self.linear = nn.Linear(4, 2)

    def forward(self, x, hidden, age):
        hidden = self.cell(x, hidden)
        return torch.tanh(self.linear(hidden) - 0.1 * age[:, None]), hidden, age + 1


class Forgets(Recurrent):
    def forward(self, x, hidden, age):
        return super().forward(x, hidden, age)[0]


class Counts(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("age", torch.zeros(1))

    def forward(self, x):
        self.age += 1
        return torch.tanh(x[:, :2] + self.age)


class OfDictionary(nn.Module):
    def forward(self, obs):
        return torch.tanh(obs["desired_goal"])


def exported(module, path, *inputs, rows="any"):
    """The program for any number of rows, or for those of ``inputs``."""
    inputs = inputs or (torch.zeros(3, 5),)
    batch = torch.export.Dim("batch")
    shapes = tuple({0: batch} for _ in inputs) if rows == "any" else None
    torch.export.save(torch.export.export(module.eval(), inputs, dynamic_shapes=shapes), path)
    return path


def recurrent(path, module=None, inputs=5):
    given = (torch.zeros(3, inputs), torch.zeros(3, 4), torch.zeros(3))
    return exported(module or Recurrent(inputs), path, *given)


VIEW = GuideView(
    observation=("observation",),
    mean=(1.0, 2.0, 3.0),
    std=(1.0, 2.0, 4.0),
    action_low=-2.0,
    action_high=2.0,
)


def test_it_acts_as_its_module_through_its_own_view(tmp_path):
    module = Tanh(3, 2.0)
    guide = torch_export_guide(
        exported(module, tmp_path / "g.pt2", torch.zeros(3, 3)), VIEW, SPEC, 2
    )
    obs, mask = observations(2, 2), torch.tensor([[True, True], [False, True]])
    obs.vector[1, 0] = float("nan")
    actions = guide.act(obs, None, mask)
    seen = (obs.vector[..., 2:] - torch.tensor([1.0, 2.0, 3.0])) / torch.tensor([1.0, 2.0, 4.0])
    torch.testing.assert_close(actions[mask], (module(seen) / 2).detach()[mask])
    assert torch.equal(actions[1, 0], torch.zeros(2))


def test_without_a_view_it_answers_in_the_environments_units_in_float64_too(tmp_path):
    module = Tanh(scale=2.0)
    obs, everyone = observations(1, 4), torch.ones(1, 4, dtype=torch.bool)
    guide = torch_export_guide(exported(module, tmp_path / "g.pt2"), GuideView(), SPEC, 1)
    torch.testing.assert_close(guide.act(obs, None, everyone), (module(obs.vector) / 2).detach())
    wide = exported(module.double(), tmp_path / "w.pt2", torch.zeros(3, 5, dtype=torch.float64))
    guide = torch_export_guide(wide, GuideView(), SPEC, 1)
    torch.testing.assert_close(
        guide.act(obs, None, everyone), (module(obs.vector.double()) / 2).detach().float()
    )


def test_a_recurrent_program_remembers_each_row_and_begins_anew_with_its_episode(tmp_path):
    path, module = recurrent(tmp_path / "r.pt2"), Recurrent()
    vectors, begins = episodes(9, 2, 3, 5)
    found = act_step_by_step(torch_export_guide(path, GuideView(), UNIT, 2), vectors, begins)
    for seed in range(2):
        for row in range(3):
            for t in range(9):
                if begins[t, seed, row]:
                    state = (torch.zeros(1, 4), torch.zeros(1))
                with torch.no_grad():
                    action, *state = module(vectors[t, seed, row][None], *state)
                torch.testing.assert_close(found[t, seed, row], action[0])
    alone = torch_export_guide(path, GuideView(), UNIT, 1)
    assert torch.equal(act_step_by_step(alone, vectors[:, 1:], begins[:, 1:]), found[:, 1:])


def test_a_copy_for_evaluation_has_a_memory_of_its_own(tmp_path):
    guide = torch_export_guide(recurrent(tmp_path / "r.pt2"), GuideView(), UNIT, 1)
    vectors, begins = episodes(6, 1, 2, 5)
    whole = act_step_by_step(guide, vectors, begins)
    first = act_step_by_step(guide, vectors[:3], begins[:3])
    act_step_by_step(copy.deepcopy(guide), -vectors, begins)
    rest = act_step_by_step(guide, vectors[3:], begins[3:])
    assert torch.equal(torch.cat([first, rest]), whole)


def test_a_run_behind_a_recurrent_program_is_resumed_exactly(tmp_path):
    overrides = (
        *REACH,
        *("dataset=none", "offline.updates=0", "online.offline_fraction=0", "online.steps=60"),
        *("guide=torch_export", f"guide.path={recurrent(tmp_path / 'r.pt2', inputs=4)}"),
        *("curriculum=random", "curriculum.initial_guide_steps=60", "seeds=[5]"),
        *("env.num_envs=2", "evaluation.interval=30", "online.learning_starts=55"),
    )
    train_here(tmp_path / "whole", *overrides)
    # In the midst of episodes: at first nothing is saved, then what is interrupted.
    for disturbance in [(STEP, 14, kill), (STEP, 23, terminate)]:
        train_disturbed(tmp_path / "parts", disturbance, *overrides)
    train_here(tmp_path / "parts", *overrides)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def refused(path, words):
    with pytest.raises(UserError, match=words) as caught:
        torch_export_guide(path, GuideView(), UNIT, 1)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_files_that_are_not_what_they_say(tmp_path, capfd):
    path = tmp_path / "other.pt2"
    refused(path, "does not exist")
    whole = exported(Tanh(), tmp_path / "good.pt2").read_bytes()
    for content in (b"", b"nothing of the kind\n" * 40, whole[: len(whole) // 2]):
        path.write_bytes(content)
        refused(path, "not an exported program")
    torch.save({"weights": torch.ones(3)}, path)
    refused(path, "not an exported program.*guide=torchscript")
    assert capfd.readouterr().err == ""


def test_inputs_and_outputs_that_do_not_fit(tmp_path):
    path = tmp_path / "g.pt2"
    refused(
        exported(Tanh(3), path, torch.zeros(3, 3)),
        "takes 3 observation columns; Unit-v0 gives it 5; .*guide.observation",
    )
    refused(exported(nn.Linear(5, 3), path), r"\(3, 3\); expected .*\(3, 2\)")
    refused(exported(Tanh(), path, rows="fixed"), r"exactly 3 rows.*dynamic_shapes=\(\{0")
    refused(exported(Tanh().half(), path, torch.zeros(3, 5).half()), "float16; expected float32")
    given = {"desired_goal": torch.zeros(3, 2)}
    rows = {"desired_goal": {0: torch.export.Dim("batch")}}
    torch.export.save(torch.export.export(OfDictionary(), (given,), dynamic_shapes=(rows,)), path)
    refused(path, r"desired_goal.*wrap it in a module whose forward\(self, x\)")


def test_a_recurrent_guide_without_its_state_is_refused(tmp_path):
    path = tmp_path / "g.pt2"
    refused(recurrent(path, Forgets()), r"shapes \(n, 4\), \(n\) and returns one of no tensor")
    refused(exported(Counts(), path), r"changes its buffers age.*an input and an output")


def test_one_for_a_single_row_is_called_row_by_row_and_what_runs_code_is_said(tmp_path, capfd):
    path, module = tmp_path / "one.pt2", Tanh()
    exported(module, path, torch.zeros(1, 5), rows="fixed")
    guide = built("torch_export", UNIT, path=str(path))
    obs = observations(1, 4)
    actions = guide.act(obs, None, torch.ones(1, 4, dtype=torch.bool))
    torch.testing.assert_close(actions, module(obs.vector).detach())
    said = capfd.readouterr().err.splitlines()
    assert ["can run code" in line for line in said] == [True, False]
    assert "called once for each" in said[1]
    built("torch_export", UNIT, path=str(exported(module, path)), trusted=True)
    assert capfd.readouterr().err == ""


def test_a_command_with_a_file_that_is_not_there_ends_with_one_line(monkeypatch, capfd):
    words = (*REACH, "dataset=none", "guide=torch_export", "guide.path=none.pt2")
    outcome = call(monkeypatch, capfd, "train", *words)
    assert (outcome.status, len(outcome.err.splitlines())) == (2, 1)


def test_the_example_in_ten_lines(tmp_path):
    module, path = example("guide_torch_export"), tmp_path / "policy.pt2"
    module.save_policy(str(path))
    words = documented_words(module, path)
    train_here(tmp_path / "run", *words, "seeds=[0,3]", "online.steps=100")
    assert read_summary(tmp_path / "run")["env_steps"] == 200
