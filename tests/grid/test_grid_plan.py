"""Which runs a grid consists of, in which order, and which grids are refused."""

import pytest
from grid_records import job
from hydra import initialize_config_dir

from jsrl.commands.paths import config_directory
from jsrl.commands.schemas import register
from jsrl.core.errors import UserError
from jsrl.grid.config import CellConfig, ComparisonConfig, GridJobConfig, PublishedConfig
from jsrl.grid.plan import Task, plan
from jsrl.grid.settings import changes, compose_settings

GRIDS = sorted(path.stem for path in (config_directory() / "grid").glob("*.yaml"))
TWO = CellConfig(name="second", overrides=["dataset.noise=0.7"], arms=["iql"], guide_from="umaze")


def small(*overrides: str) -> GridJobConfig:
    """The small grid, for two seeds."""
    return job("grid=pointmaze", "grid.seeds=[0,1]", *overrides)


def planned(config: GridJobConfig) -> list[Task]:
    """Its runs; settings are composed as within Hydra's own job."""
    register()
    with initialize_config_dir(str(config_directory()), version_base="1.3"):
        return plan(config)


def refusal(config: GridJobConfig) -> str:
    with pytest.raises(UserError) as error:
        planned(config)
    return str(error.value)


@pytest.mark.parametrize("name", GRIDS)
def test_every_grid_is_one_whose_runs_would_be_accepted(name: str) -> None:
    config = job(f"grid={name}")
    assert config.grid.name == name
    # One arm alone has nothing to be compared with.
    compared = any(comparison.primary for comparison in config.grid.comparisons)
    assert compared == (len(config.grid.arms) > 1)
    # The first and the last cell: to compose all of a large grid takes a while.
    config.cells = [config.grid.cells[0].name, config.grid.cells[-1].name]
    tasks = planned(config)
    assert {task.setup.cell for task in tasks} >= set(config.cells)
    assert sorted({seed for task in tasks for seed in task.seeds}) == sorted(config.grid.seeds)


def test_the_guides_come_first_then_the_arms_seed_by_seed() -> None:
    tasks = planned(small("arms=[jsrl_cold,no_guide]"))
    assert [task.name for task in tasks] == [
        *("umaze/guide/seed0", "umaze/guide/seed1"),
        *("umaze/jsrl_cold/seed0", "umaze/no_guide/seed0"),
        *("umaze/jsrl_cold/seed1", "umaze/no_guide/seed1"),
    ]
    assert [task.needs for task in tasks] == [
        *(None, None),
        *(("umaze", "guide", (0,)), None),
        *(("umaze", "guide", (1,)), None),
    ]


def test_a_run_gets_the_overrides_in_order_and_the_guide_of_its_seed() -> None:
    config = small("overrides=['online.steps=900']", "grid.overrides=['online.steps=800']")
    config.grid.cells[0].overrides = ["dataset.noise=0.7"]
    config.grid.arms["iql"].overrides = ["online.learning_starts=10"]
    config.grid.arms["iql"].start = "warm"
    tasks = {task.name: task for task in planned(config)}
    arguments = tasks["umaze/iql/seed1"].arguments()
    assert arguments == [
        *("experiment=pointmaze_iql", "online.steps=800", "online.steps=900"),
        *("dataset.noise=0.7", "guide=run", "guide.which=guide", "online.learning_starts=10"),
        *("start=warm", "logger.progress=false", "seeds=[1]"),
        "run_dir='runs/grid/pointmaze/umaze/iql/seed1'",
        "guide.path='runs/grid/pointmaze/umaze/guide/seed1'",
    ]
    assert tasks["umaze/iql/seed1"].setup.settings["online.steps"] == 900
    assert tasks["umaze/guide/seed1"].setup.settings["online.steps"] == 0
    assert "guide=run" not in tasks["umaze/no_guide/seed1"].arguments()
    assert str(tasks["umaze/iql/seed1"].log) == "runs/grid/pointmaze/umaze/iql/seed1.log"


def test_a_cell_may_take_the_guide_of_another_even_if_only_it_is_run() -> None:
    config = small("cells=[second]")
    config.grid.cells.append(TWO)
    tasks = planned(config)
    assert [task.name for task in tasks[:2]] == ["umaze/guide/seed0", "umaze/guide/seed1"]
    assert [task.name for task in tasks[2:]] == ["second/iql/seed0", "second/iql/seed1"]
    assert tasks[2].needs == ("umaze", "guide", (0,))
    assert "guide.path='runs/grid/pointmaze/umaze/guide/seed0'" in tasks[2].arguments()
    # Its data are the second cell's, those of the guide the first cell's.
    assert tasks[2].setup.settings["dataset.noise"] == 0.7
    assert tasks[0].setup.settings["dataset.noise"] == 1.0


def test_an_arm_may_begin_from_the_run_of_another_arm() -> None:
    config = job("grid=pointmaze_learners", "arms=[wsrl]")
    first, second = planned(config)
    assert (first.name, second.name) == ("umaze/wsrl_guide/seeds0-2", "umaze/wsrl/seeds0-2")
    assert (first.needs, second.needs) == (None, first.key)
    assert second.guide == first.directory
    assert "guide.which=guide" not in second.arguments()
    assert second.setup.guide_from == "umaze/wsrl_guide"

    config.grid.arms["wsrl"].guide_arm = "wsrl_gide"
    assert "grid.arms.wsrl.guide_arm: 'wsrl_gide' is unknown; did you mean wsrl_guide" in refusal(
        config
    )
    config.grid.arms["wsrl"].guide_arm = "wsrl"
    assert "names itself or an arm that has a guide_arm" in refusal(config)


def test_seeds_can_share_a_run() -> None:
    tasks = planned(small("grid.seeds=[0,1,2]", "grid.seeds_per_run=2", "arms=[iql]"))
    assert [(task.directory.name, task.seeds) for task in tasks] == [
        *(("seeds0-1", (0, 1)), ("seed2", (2,))),
        *(("seeds0-1", (0, 1)), ("seed2", (2,))),
    ]
    assert "seeds=[0,1]" in tasks[2].arguments()
    # Seeds that are not in a row name their folder one by one: no other set has the same.
    others = planned(small("grid.seeds=[0,2,5]", "grid.seeds_per_run=3", "arms=[iql]"))
    assert others[0].directory.name == "seeds0_2_5"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("arms=[iq]", "arms: 'iq' is unknown; did you mean iql?"),
        ("cells=[umase]", "cells: 'umase' is unknown; did you mean umaze?"),
        ("workers=0", "workers=0 must be at least 1"),
        ("grid.seeds_per_run=0", "grid.seeds_per_run=0 must be at least 1"),
        ("grid.seeds=[]", "needs at least one seed"),
        ("grid.seeds=[1,1]", "grid.seeds has 1 twice"),
        ("grid.name=a/b", "grid.name: 'a/b' is to name a folder"),
        ("grid.measure=succes", "grid.measure: 'succes' is unknown; did you mean success?"),
        ("grid.arms.iql.policy=guid", "grid.arms.iql.policy: 'guid' is unknown"),
        ("grid.arms.iql.published=jsrl", "grid.arms.iql.published: 'jsrl' is unknown"),
        ("grid.arms.iql.experiment=pointmaze_ipl", "did you mean pointmaze_iql?"),
        ("grid.pretraining.experiment=null", "grid.pretraining.experiment is not set"),
        ("grid.pretraining.experiment=pointmaze_no_guide", "guide=none, which trains none"),
        ("overrides=['learner.expectil=0.9']", "did you mean learner.expectile?"),
        ("overrides=['learner.expectile=2']", "in cell umaze: learner.expectile=2"),
    ],
)
def test_a_mistake_is_named_before_anything_is_run(override: str, message: str) -> None:
    assert message in refusal(small(override))


def test_mistakes_in_cells_and_comparisons_are_named() -> None:
    for change, message in (
        (CellConfig("b", arms=["iq"]), "arms of cell b: 'iq' is unknown"),
        (CellConfig("b", guide_from="umase"), "guide_from of cell b: 'umase' is unknown"),
        (
            CellConfig("b", published=PublishedConfig("antmaze-umase-v0", 1000)),
            "did you mean antmaze-umaze-v0?",
        ),
        (CellConfig("umaze"), "grid.cells has 'umaze' twice"),
    ):
        config = small()
        config.grid.cells.append(change)
        assert message in refusal(config)
    config = small()
    config.grid.comparisons.append(ComparisonConfig("iql", "bc", "umaze"))
    assert "arm of a comparison in cell umaze: 'bc' is unknown" in refusal(config)
    config = small()
    config.grid.arms["guide"] = config.grid.arms["iql"]
    assert "'guide' is the name of the pre-training" in refusal(config)


def test_settings_differ_where_both_have_a_key_or_the_schema_takes_any() -> None:
    old = {"online.steps": 300, "env.kwargs.map": "a", "gone": 1}
    assert changes(old, {"online.steps": 300, "env.kwargs.map": "a", "new": 2}) == []
    assert changes(old, {"online.steps": 500}) == [
        *("online.steps was 300, is 500", "env.kwargs.map was a, is None")
    ]
    assert changes({}, {"guide.arguments.k": 1}) == ["guide.arguments.k was None, is 1"]


def test_an_encoder_is_chosen_in_a_grid_as_on_the_command_line() -> None:
    seen = ["env=seen_maze_umaze", "learner.encoder=drq", "learner.encoder.features=9"]
    register()
    with initialize_config_dir(str(config_directory()), version_base="1.3"):
        found = compose_settings("arm", [*seen, "guide=none", "dataset=none"], own=seen)
    assert (found["learner.encoder.kind"], found["learner.encoder.features"]) == ("drq", 9)
