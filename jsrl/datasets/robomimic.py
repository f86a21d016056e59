"""Demonstrations in robomimic's HDF5 layout.

A file holds one group for each demonstration, ``data/demo_0`` and so on, with ``actions``,
``rewards``, ``dones``, ``states`` and, by name, several observations under ``obs`` and
``next_obs``; ``mask`` holds lists of demonstrations under names of their own, the filter keys
(Mandlekar et al. 2021, arXiv 2108.03298; https://robomimic.github.io/docs/datasets/overview.html).

Which observations are taken, in this order:
    - those that ``Reading.observation`` names; the word ``states`` stands for the simulator's;
    - those of the environment, where it observes a dictionary and the file has all of its parts;
    - all vectors, sorted by name; images are left out;
    - ``states``, in a file without observations, or where their size is the environment's and that
      of the observations is not.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import numpy as np
from jaxtyping import Shaped

from jsrl.datasets.reading import Reading
from jsrl.datasets.validation import dataset_error

STATES = "states"
Demonstrations = Sequence[tuple[str, Any]]
"""Names, and HDF5 groups."""


def is_robomimic(file: Any) -> bool:
    """Whether an open HDF5 file is in this layout."""
    data = file.get("data")
    return isinstance(data, h5py.Group) and any(
        isinstance(demo, h5py.Group) and "actions" in demo for demo in data.values()
    )


def read_robomimic(
    file: Any, reading: Reading, source: str
) -> tuple[dict[str, np.ndarray], tuple[str, ...], str]:
    """The demonstrations behind each other, as arrays of D4RL's layout.

    Args:
        file: an open ``h5py.File``.
        reading: which observations and demonstrations, and for which environment.
        source: what is read.

    Returns:
        The arrays; lines that say what was chosen, left out or missing; and the source, with the
        filter key if one was given.

    Raises:
        UserError: if a demonstration lacks an array or its arrays differ in length, or if there is
            no such observation or filter key.
    """
    demos = _demonstrations(file, reading.mask, source)
    names = _observation_names(demos[0][1], reading, source)
    for name, demo in demos:
        _require_whole(name, demo, names, source)
    arrays = {
        "observations": np.concatenate([_observed(demo, "obs", names) for _, demo in demos]),
        "actions": np.concatenate([_flat(demo["actions"]) for _, demo in demos]),
        "timeouts": np.concatenate([_last(len(demo["actions"])) for _, demo in demos]),
    }
    if names != (STATES,) and all(_has(demo, "next_obs", names) for _, demo in demos):
        following = [_observed(demo, "next_obs", names) for _, demo in demos]
        arrays["next_observations"] = np.concatenate(following)
    missing = []
    for key, name in (("rewards", "rewards"), ("dones", "terminals")):
        having = [demo for _, demo in demos if key in demo]
        if having and len(having) < len(demos):
            lacking = next(name for name, demo in demos if key not in demo)
            raise dataset_error(
                source,
                f"{lacking} has no {key}, while others have; add them, or leave it out by a "
                "filter key (dataset.mask)",
            )
        if not having:
            missing.append(key)
            arrays[name] = np.zeros(len(arrays["actions"]), np.float32)
        else:
            arrays[name] = np.concatenate([np.asarray(demo[key]).reshape(-1) for demo in having])
    lines = [
        _chosen_line(file, demos, names, reading, source),
        *_missing_lines(missing, source),
        *_dones_lines(arrays, source),
    ]
    return arrays, tuple(lines), source if reading.mask is None else f"{source} ({reading.mask})"


def _demonstrations(file: Any, mask: str | None, source: str) -> Demonstrations:
    """The demonstrations that are asked for, in the order of their numbers."""
    data = file["data"]
    names = sorted((n for n in data if isinstance(data[n], h5py.Group)), key=_number)
    if mask is not None:
        masks = file.get("mask")
        known = sorted(masks) if isinstance(masks, h5py.Group) else []
        if mask not in known:
            raise dataset_error(
                source,
                f"dataset.mask={mask} is no filter key of the file; it has "
                f"{', '.join(known) or 'none'}; choose one, or leave dataset.mask out to read all",
            )
        wanted = [n.decode() if isinstance(n, bytes) else str(n) for n in masks[mask][()].ravel()]
        absent = [name for name in wanted if name not in names]
        if absent or not wanted:
            raise dataset_error(
                source,
                f"dataset.mask={mask} names "
                f"{f'{absent[0]}, which is not in the file' if absent else 'no demonstration'}; "
                "choose another filter key, or make the file again",
            )
        names = sorted(set(wanted), key=_number)
    return [(name, data[name]) for name in names]


def _number(name: str) -> tuple[int, str]:
    """Demonstration 2 comes before demonstration 10."""
    digits = re.search(r"\d+$", name)
    return (int(digits.group()) if digits else -1, name)


def _vectors(demo: Any) -> dict[str, int]:
    """The observations of a demonstration that are no images, by name, with their sizes."""
    group = demo.get("obs")
    names = sorted(group) if isinstance(group, h5py.Group) else []
    return {
        name: int(np.prod(group[name].shape[1:]))
        for name in names
        if isinstance(group[name], h5py.Dataset) and not _is_image(group[name])
    }


def _is_image(array: Any) -> bool:
    """Images are stored as bytes, [T, height, width, channels]; depth has that many axes, too."""
    return bool(array.dtype == np.uint8 and array.ndim > 2) or array.ndim > 3


def _observation_names(demo: Any, reading: Reading, source: str) -> tuple[str, ...]:
    vectors, spec = _vectors(demo), reading.spec
    has_states = STATES in demo and len(demo[STATES].shape) == 2
    if reading.observation is not None:
        return _named(demo, tuple(reading.observation), vectors, source)
    parts = () if spec is None else tuple(name for name, _, _ in spec.observation.layout)
    if spec is not None and all(name in vectors for name in parts):
        for name, start, stop in spec.observation.layout:
            if vectors[name] != stop - start:
                raise dataset_error(
                    source,
                    f"observation '{name}' has size {vectors[name]}, but that of {spec.id} has "
                    f"size {stop - start}; choose a dataset and env.id that belong together",
                )
        return parts
    size = sum(vectors.values())
    fits = spec is None or size == spec.observation.size
    if vectors and fits:
        return tuple(vectors)
    states = demo[STATES].shape[1] if has_states else 0
    if states and (not vectors or (spec is not None and states == spec.observation.size)):
        return (STATES,)
    if not vectors:
        raise dataset_error(
            source,
            "no observations that are vectors, and no states; jsrl does not learn from images; "
            "extract low-dimensional ones (robomimic's dataset_states_to_obs.py)",
        )
    assert spec is not None
    listed = ", ".join(f"{name} ({of})" for name, of in vectors.items())
    states_too = f", and states ({states})" if states else ""
    raise dataset_error(
        source,
        f"its observations have size {size} in all, but those of {spec.id} have size "
        f"{spec.observation.size}; it has {listed}{states_too}; name those that the environment "
        f"observes, in its order, for example dataset.observation=[{next(iter(vectors))}]",
    )


def _named(
    demo: Any, names: tuple[str, ...], vectors: Mapping[str, int], source: str
) -> tuple[str, ...]:
    """The names that the user gave, if there are such observations."""
    known = [*vectors, *([STATES] if STATES in demo else [])]
    for name in names:
        if name in known:
            continue
        image = name in demo.get("obs", {})
        raise dataset_error(
            source,
            f"dataset.observation names {name}, which is "
            f"{'an image: jsrl learns from vectors' if image else 'not there'}; it has "
            f"{', '.join(known) or 'none'}; choose among them",
        )
    if not names or (STATES in names and len(names) > 1):
        raise dataset_error(
            source,
            f"dataset.observation={list(names)} was given; expected names of observations, or "
            f"[{STATES}] alone",
        )
    return names


def _require_whole(name: str, demo: Any, names: tuple[str, ...], source: str) -> None:
    """See that a demonstration has what is read of it, and that it is of one length."""
    needed = {"actions": demo.get("actions")}
    needed |= {n: demo.get(n) for n in ("rewards", "dones") if n in demo}
    if names == (STATES,):
        needed[STATES] = demo.get(STATES)
    else:
        needed |= {f"obs/{n}": demo.get(f"obs/{n}") for n in names}
        needed |= {f"next_obs/{n}": demo[f"next_obs/{n}"] for n in names if f"next_obs/{n}" in demo}
    for key, array in needed.items():
        if not isinstance(array, h5py.Dataset) or array.ndim == 0:
            raise dataset_error(
                source,
                f"{name} has no {key}, and other demonstrations have; add it, or leave {name} out "
                "by a filter key (dataset.mask)",
            )
    length = len(demo["actions"])
    lengths = {key: len(array) for key, array in needed.items()}
    lengths["num_samples"] = int(demo.attrs.get("num_samples", length))
    for key, other in lengths.items():
        if other != length:
            raise dataset_error(
                source,
                f"{name} has {length} actions, but {key} says {other}; expected equal lengths; the "
                "file may have been cut or mixed up: make or fetch it again",
            )


def _has(demo: Any, group: str, names: tuple[str, ...]) -> bool:
    return all(f"{group}/{name}" in demo for name in names)


def _observed(demo: Any, group: str, names: tuple[str, ...]) -> Shaped[np.ndarray, "T O"]:
    """The chosen observations of a demonstration side by side."""
    if names == (STATES,):
        return _flat(demo[STATES])
    return np.concatenate([_flat(demo[f"{group}/{name}"]) for name in names], axis=1)


def _flat(array: Any) -> Shaped[np.ndarray, "T O"]:
    values = np.asarray(array)
    return values.reshape(len(values), -1)


def _last(length: int) -> np.ndarray:
    return np.arange(length) == length - 1


def _chosen_line(
    file: Any, demos: Demonstrations, names: tuple[str, ...], reading: Reading, source: str
) -> str:
    data, first = file["data"], demos[0][1]
    groups = [name for name in data if isinstance(data[name], h5py.Group)]
    masks = file.get("mask")
    keys = sorted(masks) if isinstance(masks, h5py.Group) else []
    chosen = f"{len(demos)} of {len(groups)} demonstrations"
    if reading.mask is None and keys:
        chosen += f" (dataset.mask chooses some: {', '.join(keys)})"
    stored = sorted(first["obs"]) if isinstance(first.get("obs"), h5py.Group) else []
    left = [name for name in stored if name not in names]
    images = [name for name in left if _is_image(first[f"obs/{name}"])]
    line = f"dataset {source} is in robomimic's layout{_recorded_in(data)}: {chosen}; observations "
    line += f"are {', '.join(names)}"
    if left:
        line += f", and {', '.join(left)} left out"
        line += f" (of them images: {', '.join(images)})" if images else ""
    return line


def _recorded_in(data: Any) -> str:
    """The environment's name as the file has it."""
    try:
        name = json.loads(data.attrs["env_args"])["env_name"]
    except (KeyError, TypeError, ValueError):
        return ""
    return f", recorded in {name}"


def _missing_lines(missing: Sequence[str], source: str) -> list[str]:
    said = {
        "rewards": "no rewards: they are 0 everywhere, from which only behaviour cloning learns",
        "dones": "no dones: every demonstration ends by timeout",
    }
    return [f"dataset {source} has {said[key]}" for key in missing]


def _dones_lines(arrays: Mapping[str, np.ndarray], source: str) -> list[str]:
    """What robomimic's scripts can write as dones: success, the end of a demonstration, or both."""
    last = arrays["timeouts"]
    dones, rewards = np.asarray(arrays["terminals"]) != 0, np.asarray(arrays["rewards"])
    if not dones.any():
        return []
    inside = int((dones & ~last).sum())
    line = f"dataset {source}: dones is read as a terminal state, in {int(dones.sum())} rows"
    if inside:
        line += f", {inside} of them before a demonstration's end, where an episode ends then"
    unrewarded = int((rewards[last] <= 0).sum())
    if dones[last].all() and unrewarded:
        line += (
            f"; it ends all demonstrations, {unrewarded} of them without a reward: if it marks the "
            "end of the recording, no value is learnt beyond it; write dones again for success "
            "alone in that case (dataset_states_to_obs.py --done_mode 0)"
        )
    return [line]
