"""What the columns of an observation are called."""

from jsrl.monitor.capture.columns import column_names, name_of_column


def test_columns_are_called_by_their_part_of_the_observation_and_their_place_in_it() -> None:
    layout = (("achieved_goal", 0, 2), ("observation", 2, 5), ("desired_goal", 5, 7))
    names = column_names(layout)
    assert names[4:6] == ("observation[2]", "desired_goal[0]") and len(names) == 7
    assert name_of_column(6, names) == "desired_goal[1] (column 6)"
    assert name_of_column(6, ()) == "column 6"
