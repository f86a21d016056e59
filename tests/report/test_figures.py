"""Figures: what is drawn, read from the artists, and that a PNG of the right size comes out."""

import subprocess
import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from jsrl.core.errors import UserError
from jsrl.loggers import Record
from jsrl.report import figures
from jsrl.report.who_acts import picture_over_episode


def run_records(seeds, steps=(0, 100, 200), measure="success", curriculum=True):
    """Seed k succeeds at (step / 1000) + k / 10; h falls from 60 to 0 as the stage rises."""
    records = []
    for seed in seeds:
        records.append(Record(50, "offline", seed, f"evaluation/guide_{measure}", 0.5 + seed / 10))
        for index, step in enumerate(steps):
            values = {
                f"evaluation/exploration_{measure}": step / 1000 + seed / 10,
                f"evaluation/combined_{measure}": 0.6,
            }
            if curriculum:
                values |= {
                    "curriculum/guide_steps": 60.0 - 30 * index,
                    "curriculum/stage": 1.0 * index,
                }
            records += [Record(step, "online", seed, name, value) for name, value in values.items()]
    return records


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were drawn, to look into."""
    kept = []
    original = figures._panels

    def keep(heights):
        kept.append(original(heights)[0])
        return kept[-1], list(kept[-1].axes)

    monkeypatch.setattr(figures, "_panels", keep)
    return kept


def line(axes, label):
    (found,) = [line for line in axes.get_lines() if line.get_label() == label]
    return found


def test_a_curve_has_a_row_for_each_seed_of_each_run():
    first = [Record(0, "online", 0, "a/b", 1.0), Record(10, "online", 0, "a/b", 2.0)]
    second = [Record(0, "online", 0, "a/b", None), Record(5, "offline", 0, "a/b", 9.0)]
    steps, values = figures.curve([first, second], "a/b")
    assert steps.tolist() == [0, 10]
    assert np.array_equal(values, [[1.0, 2.0], [np.nan, np.nan]], equal_nan=True)
    assert figures.curve([first, second], "a/b", None)[0].tolist() == [0, 5, 10]
    steps, values = figures.curve([], "a/b")
    assert (steps.shape, values.shape) == ((0,), (0, 0))


def test_learning_curve_draws_policies_guide_steps_and_stage(tmp_path, drawn):
    figures.learning_curve(tmp_path / "curve.png", run_records([0, 1, 2]), "some experiment")
    assert matplotlib.image.imread(tmp_path / "curve.png").shape[:2] == (600, 900)
    upper, steps, stage = drawn[0].axes
    assert drawn[0].get_suptitle() == "some experiment (3 seeds)"
    assert upper.get_ylabel() == "success rate"
    exploration = line(upper, "exploration-policy")
    assert np.allclose(exploration.get_xydata(), [[0, 0.1], [100, 0.2], [200, 0.3]])
    assert np.allclose(line(upper, "combined-policy").get_ydata(), 0.6)
    guide = line(upper, "guide-policy")
    assert np.allclose(guide.get_ydata(), 0.6)
    assert guide.get_linestyle() == "--"
    # The mean of three values 0.1 apart: its interval reaches from the lowest to the highest.
    band = upper.collections[0].get_paths()[0].vertices
    assert np.isclose(band[:, 1].max(), 0.4)
    assert len(steps.get_lines()) == 4  # three seeds and their mean
    assert steps.get_lines()[0].get_ydata().tolist() == [60.0, 30.0, 0.0]
    assert stage.get_lines()[0].get_ydata().tolist() == [0.0, 1.0, 2.0]
    assert "guide\nsteps h" in steps.get_ylabel()
    assert "environment steps" in stage.get_xlabel()


def test_the_legend_covers_no_data(tmp_path, drawn):
    figures.learning_curve(tmp_path / "curve.png", run_records([0]), "experiment")
    upper = drawn[0].axes[0]
    drawn[0].canvas.draw()
    assert upper.get_legend().get_window_extent().y0 >= upper.get_window_extent().y1 - 1


def test_one_seed_has_no_band_and_one_line_a_panel(tmp_path, drawn):
    figures.learning_curve(tmp_path / "curve.png", run_records([0]), "experiment")
    upper, steps, stage = drawn[0].axes
    assert len(upper.collections) == 0
    assert len(steps.get_lines()) == len(stage.get_lines()) == 1
    assert drawn[0].get_suptitle() == "experiment"


def test_the_return_is_drawn_where_success_is_undefined(tmp_path, drawn):
    records = run_records([0], measure="return", curriculum=False)
    records.append(Record(0, "online", 0, "evaluation/exploration_success", None))
    figures.learning_curve(tmp_path / "curve.png", records, "experiment")
    (upper,) = drawn[0].axes
    assert upper.get_ylabel() == "return"
    assert len(line(upper, "exploration-policy").get_xdata()) == 3


def test_a_failed_seed_leaves_the_mean_to_the_others(tmp_path, drawn):
    records = [
        record._replace(value=None)
        if record.seed == 1 and record.step >= 100 and record.phase == "online"
        else record
        for record in run_records([0, 1])
    ]
    figures.learning_curve(tmp_path / "curve.png", records, "experiment")
    data = line(drawn[0].axes[0], "exploration-policy").get_ydata()
    assert np.allclose(data, [0.05, 0.1, 0.2])


def test_a_run_without_online_steps_draws_an_empty_figure(tmp_path, recwarn):
    figures.learning_curve(tmp_path / "curve.png", [], "experiment")
    assert (tmp_path / "curve.png").stat().st_size > 1000
    assert len(recwarn) == 0


def shared_records(seeds, share, h=0.0):
    """As of a rule without h: the explorer's share, and what it was over the episode."""
    records = run_records(seeds, curriculum=False)
    for seed in seeds:
        for index, step in enumerate((0, 100, 200)):
            found = {"curriculum/guide_steps": h, "curriculum/stage": 0.0}
            found["collect/explorer_share"] = share[index] + seed / 10
            found |= {f"explorer_share/tenth_{k + 1}": share[index] for k in range(9)}
            found["explorer_share/tenth_10"] = None
            records += [Record(step, "online", seed, name, value) for name, value in found.items()]
    return records


def test_of_a_rule_without_h_the_explorers_share_is_drawn(tmp_path, drawn):
    records = shared_records([0, 1], (0.2, 0.4, 0.9))
    figures.learning_curve(tmp_path / "curve.png", records, "experiment")
    _, share, over_episode = drawn[0].axes
    assert "share" in share.get_ylabel()
    assert share.get_lines()[0].get_ydata().tolist() == [0.2, 0.4, 0.9]
    assert np.allclose(share.get_lines()[2].get_ydata(), [0.25, 0.45, 0.95])
    (fields,) = over_episode.collections
    shown = fields.get_array().reshape(10, 3)
    assert np.allclose(shown[:9].data, [0.2, 0.4, 0.9])
    assert shown.mask[9].all()  # no episode lasts as long
    assert not any(word == "h" for axes in drawn[0].axes for word in axes.get_ylabel().split())


def test_where_the_explorer_alone_acts_there_is_nothing_below(tmp_path, drawn):
    records = shared_records([0], (1.0, 1.0, 1.0))
    figures.learning_curve(tmp_path / "curve.png", records, "experiment")
    assert len(drawn[0].axes) == 1
    assert picture_over_episode(records) is None
    assert picture_over_episode(shared_records([0], (0.5, 1.0, 1.0))).startswith(b"\x89PNG")


def test_a_curriculum_that_draws_h_has_no_panel_of_stages(tmp_path, drawn):
    records = [
        r._replace(value=0.0) if r.name == "curriculum/stage" else r for r in run_records([0])
    ]
    figures.learning_curve(tmp_path / "curve.png", records, "experiment")
    assert [axes.get_ylabel() for axes in drawn[0].axes] == ["success rate", "guide\nsteps h"]


def test_comparison_shows_the_share_where_a_rule_has_no_h(tmp_path, drawn):
    runs = {
        "pex": [shared_records([0], (0.2, 0.4, 0.9))],
        "jsrl": [shared_records([0], (0.5, 0.5, 0.5), h=9.0)],
        "alone": [shared_records([0], (1.0, 1.0, 1.0))],
    }
    figures.comparison(tmp_path / "comparison.png", runs)
    _, share = drawn[0].axes
    assert [x.get_ydata().tolist() for x in share.get_lines()] == [[0.2, 0.4, 0.9], [0.5] * 3]
    del runs["pex"]
    figures.comparison(tmp_path / "comparison.png", runs)
    assert len(drawn[1].axes) == 1


def test_comparison_pools_runs_and_tells_experiments_apart(tmp_path, drawn):
    runs = {
        "ours": [run_records([0, 1]), run_records([2])],
        "theirs": [run_records([0])],
        "late": [[]],
    }
    figures.comparison(tmp_path / "comparison.png", runs)
    (upper,) = drawn[0].axes
    assert np.allclose(line(upper, "ours (3 seeds)").get_ydata(), [0.1, 0.2, 0.3])
    assert np.allclose(line(upper, "theirs (1 seed)").get_ydata(), [0.0, 0.1, 0.2])
    assert len(line(upper, "late (not evaluated)").get_xdata()) == 0
    looks = {(x.get_color(), x.get_linestyle()) for x in upper.get_lines()}
    assert len(looks) == 3
    assert matplotlib.image.imread(tmp_path / "comparison.png").shape[1] == 900


def test_many_long_labels_make_the_figure_higher_not_narrower(tmp_path, recwarn):
    runs = {f"experiment (learner.temperature={k}.000000)": [run_records([0])] for k in range(9)}
    figures.comparison(tmp_path / "comparison.png", runs)
    height, width = matplotlib.image.imread(tmp_path / "comparison.png").shape[:2]
    assert width == 900
    assert height > 600
    assert len(recwarn) == 0


def test_a_figure_that_cannot_be_written_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        figures.comparison(tmp_path / "file" / "comparison.png", {"one": [run_records([0])]})


DRAWS = """
import sys
import jsrl.commands.train, jsrl.commands.schemas
slow = {"matplotlib", "scipy.stats", "scipy.spatial"}
assert not slow & set(sys.modules), slow & set(sys.modules)
from test_figures import figures, run_records
figures.comparison(figures.Path(sys.argv[1]), {"one": [run_records([0])]})
assert "matplotlib.figure" in sys.modules
assert "matplotlib.pyplot" not in sys.modules
"""


def test_drawing_needs_no_pyplot_and_commands_that_draw_nothing_load_nothing_for_it(tmp_path):
    command = [sys.executable, "-c", DRAWS, str(tmp_path / "curves.png")]
    folder = Path(__file__).parent
    assert subprocess.run(command, check=False, cwd=folder).returncode == 0
    assert (tmp_path / "curves.png").exists()
