"""What earlier versions named otherwise is found, and its present name is told."""

import importlib
import sys

import pytest
from specs import vector

import jsrl
from jsrl.core.former_names import FORMER_NAMES


@pytest.mark.parametrize("former", sorted(FORMER_NAMES))
def test_a_module_is_found_by_the_name_that_it_had(former: str) -> None:
    present = importlib.import_module(f"jsrl.{FORMER_NAMES[former]}")
    sys.modules.pop(f"jsrl.{former}", None)
    with pytest.warns(DeprecationWarning, match=f"is jsrl.{FORMER_NAMES[former]} now"):
        found = importlib.import_module(f"jsrl.{former}")
    assert found is present
    assert present.__name__ == f"jsrl.{FORMER_NAMES[former]}"


def test_what_stands_in_several_modules_today_is_found_too() -> None:
    sys.modules.pop("jsrl.types", None)
    with pytest.warns(DeprecationWarning, match="jsrl.types is jsrl.core.specs and"):
        from jsrl.types import Consumes, EnvSpec, TransitionBatch

    from jsrl.core import protocols, specs, transitions

    assert (TransitionBatch, Consumes) == (transitions.TransitionBatch, protocols.Consumes)
    # It is made with the arguments that it had, and is one of today.
    layout = (("goal", 0, 2), ("state", 2, 5))
    former = EnvSpec("E-v0", 5, 2, layout, (-1.0, 0.0), (1.0, 3.0), 50, action_shape=(1, 2))
    assert isinstance(former, specs.EnvSpec)
    assert former.observation == vector(layout)
    assert former.actions == specs.BoxActions((-1.0, 0.0), (1.0, 3.0), (1, 2))
    assert (former.observation_size, former.action_size, former.layout) == (5, 2, layout)
    assert (former.action_low, former.action_high) == ((-1.0, 0.0), (1.0, 3.0))
    with pytest.raises(ValueError, match="observation_size=4 and action_size=2 are not those"):
        EnvSpec("E-v0", 4, 2, layout, (-1.0, 0.0), (1.0, 3.0), 50)
    sys.modules.pop("jsrl.runs", None)
    with pytest.warns(DeprecationWarning, match="jsrl.runs is jsrl.run.saved and"):
        from jsrl.runs import evaluate_run, export_run, load_policy

    from jsrl.run import saved, saved_evaluation, saved_export

    assert (load_policy, evaluate_run, export_run) == (
        saved.load_policy,
        saved_evaluation.evaluate_run,
        saved_export.export_run,
    )
    from jsrl.networks import GaussianPolicy, SeedMLP, layers, policies

    assert (GaussianPolicy, SeedMLP) == (policies.GaussianPolicy, layers.SeedMLP)
    with pytest.raises(ImportError, match="nothing"):
        from jsrl.networks import nothing  # noqa: F401
    with pytest.raises(ModuleNotFoundError, match=r"jsrl\.nowhere"):
        importlib.import_module("jsrl.nowhere")


def test_a_function_of_the_package_is_not_hidden_by_a_module_that_had_its_name() -> None:
    sys.modules.pop("jsrl.train", None)
    with pytest.warns(DeprecationWarning, match="jsrl.train is jsrl.run.train now"):
        from jsrl.train import train

    from jsrl.commands import from_python
    from jsrl.run import train as present

    assert train is present.train
    assert jsrl.train is from_python.train
