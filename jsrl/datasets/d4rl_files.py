"""Which file holds which D4RL dataset.

Facts from D4RL's URL tables (https://github.com/Farama-Foundation/D4RL, ``d4rl/infos.py`` and the
environment registrations), for the datasets with continuous actions and vector observations.
Paths are relative to D4RL's server folder, ``DEFAULT_SERVER``.
"""

DEFAULT_SERVER = "http://rail.eecs.berkeley.edu/datasets/offline_rl"


def _antmaze() -> dict[str, str]:
    sizes_v0 = {"umaze": "u-maze", "medium": "big-maze", "large": "hardest-maze"}
    sizes_v1 = {"umaze": "umaze", "medium": "medium", "large": "large"}
    kinds = {
        "umaze": ("umaze", False, False),
        "umaze-diverse": ("umaze", True, True),
        "medium-play": ("medium", True, False),
        "medium-diverse": ("medium", True, True),
        "large-play": ("large", True, False),
        "large-diverse": ("large", True, True),
    }
    files = {}
    for version, folder, sizes, suffix in (
        ("v0", "ant_maze_new", sizes_v0, "sparse"),
        ("v1", "ant_maze_v1", sizes_v1, "sparse"),
        ("v2", "ant_maze_v2", sizes_v0, "sparse_fixed"),
    ):
        for kind, (size, starts, goals) in kinds.items():
            files[f"antmaze-{kind}-{version}"] = (
                f"{folder}/Ant_maze_{sizes[size]}_noisy_multistart_{starts}_multigoal_{goals}"
                f"_{suffix}.hdf5"
            )
    return files


def _maze2d() -> dict[str, str]:
    files = {
        "maze2d-open-v0": "maze2d/maze2d-open-sparse.hdf5",
        "maze2d-open-dense-v0": "maze2d/maze2d-open-dense.hdf5",
    }
    for maze in ("umaze", "medium", "large", "eval-umaze", "eval-medium", "eval-large"):
        files[f"maze2d-{maze}-v1"] = f"maze2d/maze2d-{maze}-sparse-v1.hdf5"
        files[f"maze2d-{maze}-dense-v1"] = f"maze2d/maze2d-{maze}-dense-v1.hdf5"
    return files


def _adroit() -> dict[str, str]:
    names_v0 = {
        "human": "{task}-v0_demos_clipped",
        "cloned": "{task}-demos-v0-bc-combined",
        "expert": "{task}-v0_expert_clipped",
    }
    files = {}
    for task in ("pen", "hammer", "relocate", "door"):
        for kind, pattern in names_v0.items():
            files[f"{task}-{kind}-v0"] = f"hand_dapg/{pattern.format(task=task)}.hdf5"
            files[f"{task}-{kind}-v1"] = f"hand_dapg_v1/{task}-{kind}-v1.hdf5"
    return files


def _locomotion() -> dict[str, str]:
    files = {}
    for robot in ("hopper", "halfcheetah", "walker2d", "ant"):
        for kind in ("random", "medium", "expert", "medium-expert"):
            files[f"{robot}-{kind}-v0"] = f"gym_mujoco/{robot}_{kind.replace('-', '_')}.hdf5"
        mixed = "walker" if robot == "walker2d" else robot
        files[f"{robot}-medium-replay-v0"] = f"gym_mujoco/{mixed}_mixed.hdf5"
        for kind in (
            "random",
            "medium",
            "expert",
            "medium-expert",
            "medium-replay",
            "full-replay",
        ):
            for version in ("v1", "v2"):
                files[f"{robot}-{kind}-{version}"] = (
                    f"gym_mujoco_{version}/{robot}_{kind.replace('-', '_')}-{version}.hdf5"
                )
    files["ant-random-expert-v0"] = "gym_mujoco/ant_random_expert.hdf5"
    return files


def _kitchen_and_flow() -> dict[str, str]:
    return {
        "kitchen-complete-v0": "kitchen/mini_kitchen_microwave_kettle_light_slider-v0.hdf5",
        "kitchen-partial-v0": "kitchen/kitchen_microwave_kettle_light_slider-v0.hdf5",
        "kitchen-mixed-v0": "kitchen/kitchen_microwave_kettle_bottomburner_light-v0.hdf5",
        "flow-ring-random-v0": "flow/flow-ring-v0-random.hdf5",
        "flow-ring-controller-v0": "flow/flow-ring-v0-idm.hdf5",
        "flow-merge-random-v0": "flow/flow-merge-v0-random.hdf5",
        "flow-merge-controller-v0": "flow/flow-merge-v0-idm.hdf5",
    }


def _bullet() -> dict[str, str]:
    files = {}
    for robot in ("halfcheetah", "hopper", "ant", "walker2d"):
        for kind in ("random", "medium", "expert", "medium-expert", "medium-replay"):
            files[f"bullet-{robot}-{kind}-v0"] = (
                f"bullet/bullet-{robot}_{kind.replace('-', '_')}.hdf5"
            )
    for maze in ("open", "umaze", "medium", "large"):
        files[f"bullet-maze2d-{maze}-v0"] = f"bullet/bullet-maze2d-{maze}-sparse.hdf5"
    return files


D4RL_FILES: dict[str, str] = {
    **_antmaze(),
    **_maze2d(),
    **_adroit(),
    **_locomotion(),
    **_kitchen_and_flow(),
    **_bullet(),
}
"""From a D4RL dataset name to its file's path on the server."""
