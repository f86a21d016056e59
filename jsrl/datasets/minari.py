"""Datasets of the Minari project, from its local store or its server.

Minari keeps whole episodes with one observation more than actions, so that every transition has
its true successor. Rewards are taken as they are.

Environment variables, Minari's own: ``MINARI_DATASETS_PATH`` is the local store (default
``~/.minari/datasets``), ``MINARI_REMOTE`` the server.
"""

import re
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from gymnasium import spaces
from jaxtyping import Shaped

from jsrl.core.errors import UserError
from jsrl.datasets.dataset import Dataset, make_dataset
from jsrl.datasets.reading import NORMALISED, PLAIN, Reading
from jsrl.datasets.validation import dataset_error, one_line

Layout = tuple[tuple[str, int, int], ...]
"""As in ``EnvSpec.layout``: names of observation parts with their [start, stop) columns."""


def load_minari(
    dataset_id: str,
    layout: Layout | None = None,
    reading: Reading = PLAIN,
    *,
    download: bool = True,
    **options: Any,
) -> Dataset:
    """Read a Minari dataset, such as ``D4RL/pointmaze/umaze-v2``.

    Actions are in the units of the environment in which they were recorded. They are rescaled to
    [-1, 1] by the bounds of the one that is trained in (``spec``), which may differ, and without
    it by those of the data's own action space. An episode that ends without a termination counts
    as ended by timeout.

    Args:
        dataset_id: its identifier, with the version.
        layout: the parts of the environment's observation, in the order of their columns
            (``EnvSpec.layout``); parts of the dataset that it does not name are left out. None:
            that of ``spec``, and without it all parts, sorted by name, as Gymnasium's dictionary
            spaces are.
        reading: how: see ``Reading``.
        download: whether a dataset that is not in the local store may be downloaded.
        options: fields of ``Reading`` that differ from those in ``reading``.

    Raises:
        UserError: if the dataset is neither in the store nor to be had, is broken, does not match
            ``layout``, observes other than (dictionaries of) Box, takes other than Box or
            Discrete, is to be read for an environment with images, or does not pass
            ``make_dataset``.
    """
    reading = replace(reading, **options)
    if layout is None and reading.spec is not None:
        layout = reading.spec.observation.layout
    source = f"Minari {dataset_id}"
    if reading.spec is not None and reading.spec.observation.images:
        raise dataset_error(
            source,
            f"environment '{reading.spec.id}' observes images, which are not read from Minari; "
            "collect data by dataset=python or jsrl dataset rollouts",
        )
    stored = _open(dataset_id, source, download)
    action_space = stored.action_space
    if not isinstance(action_space, spaces.Box | spaces.Discrete):
        raise dataset_error(
            source,
            f"the action space is {action_space}; expected a Box or Discrete; "
            "choose a dataset with continuous actions, or with one choice a step",
        )
    names = _part_names(stored.observation_space, layout, source)
    try:
        arrays = _concatenate(stored, names, source)
    except (OSError, KeyError, ValueError, AssertionError) as error:
        raise _broken(source, error) from error
    except ImportError as error:
        raise _lacking(source, error) from error
    if isinstance(action_space, spaces.Discrete):
        return _of_choices(arrays, int(action_space.start), source, reading)
    bounds = action_space.low.reshape(-1), action_space.high.reshape(-1)
    return make_dataset(arrays, source, reading, recorded_bounds=bounds)


def _of_choices(
    arrays: dict[str, np.ndarray], start: int, source: str, reading: Reading
) -> Dataset:
    """A dataset whose actions are choices, which begin with ``start`` in its own action space."""
    choices = arrays["actions"][:, 0]
    if reading.spec is None:
        # Nobody else says where they begin.
        reading = replace(reading, action_units=NORMALISED)
        choices = choices - start
    return make_dataset({**arrays, "actions": choices}, source, reading)


def _open(dataset_id: str, source: str, download: bool) -> Any:
    # Loading Minari takes a while and is of no use to other datasets.
    import minari

    # Minari advises newer versions and optional packages by warnings.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return minari.load_dataset(dataset_id, download=False)
        except FileNotFoundError as error:
            if not download:
                raise dataset_error(
                    source,
                    "not in the local store ($MINARI_DATASETS_PATH, default ~/.minari/datasets) "
                    "and downloading is off; expected it there; run "
                    f"`minari download {dataset_id}` where there is a network",
                ) from error
        except (OSError, KeyError, ValueError, AssertionError, TypeError) as error:
            raise _broken(source, error) from error
        except ImportError as error:
            raise _lacking(source, error) from error
        try:
            return minari.load_dataset(dataset_id, download=True)
        except ImportError as error:
            raise dataset_error(
                source,
                "not in the local store ($MINARI_DATASETS_PATH, default ~/.minari/datasets), and "
                f"downloading it needs a package that is not installed ({one_line(error)}); check "
                "the identifier, or pip install 'minari[hf]'",
            ) from error
        # Whatever the server's client library raises: the dataset cannot be had.
        except Exception as error:
            raise dataset_error(
                source,
                f"not in the local store and cannot be downloaded ({one_line(error)}); expected an "
                "identifier such as D4RL/pointmaze/umaze-v2; check it and the network, or copy "
                "the dataset into $MINARI_DATASETS_PATH (default ~/.minari/datasets)",
            ) from error


def _part_names(
    space: spaces.Space[Any], layout: Layout | None, source: str
) -> tuple[str, ...] | None:
    """The names of a dictionary observation's parts in order; None if it is a plain array."""
    parts: Mapping[str, spaces.Space[Any]]
    if isinstance(space, spaces.Dict):
        parts = space.spaces
        order = sorted(parts) if layout is None else [name for name, _, _ in layout]
    else:
        parts = {"observation": space}
        order = ["observation"] if layout is None else [name for name, _, _ in layout]
    for name in order:
        if name not in parts:
            raise dataset_error(
                source,
                f"no observation part '{name}' (it has {', '.join(sorted(parts))}); expected the "
                "environment's parts; choose a dataset and env.id that belong together",
            )
        if not isinstance(parts[name], spaces.Box):
            raise dataset_error(
                source,
                f"the observation space of '{name}' is {parts[name]}; expected a Box, or a Dict of "
                "Box spaces; choose another dataset",
            )
    for name, start, stop in layout or ():
        size = int(np.prod(parts[name].shape or ()))
        if size != stop - start:
            raise dataset_error(
                source,
                f"observation part '{name}' has size {size}, but the environment's has size "
                f"{stop - start}; choose a dataset and env.id that belong together",
            )
    return tuple(order) if isinstance(space, spaces.Dict) else None


def _concatenate(stored: Any, names: tuple[str, ...] | None, source: str) -> dict[str, np.ndarray]:
    """All episodes behind each other, in D4RL's layout, with true successors."""
    columns: dict[str, list[np.ndarray]] = {
        name: []
        for name in (
            "observations",
            "actions",
            "rewards",
            "next_observations",
            "terminals",
            "timeouts",
        )
    }
    for episode in stored.iterate_episodes():
        length = len(episode.rewards)
        if length == 0:
            continue
        observations = _flatten(episode.observations, names)
        if len(observations) != length + 1:
            raise dataset_error(
                source,
                f"episode {episode.id} has {len(observations)} observations and {length} rewards; "
                f"expected {length + 1} observations; make or fetch the dataset again",
            )
        terminals = np.asarray(episode.terminations).astype(bool)
        timeouts = np.array(episode.truncations).astype(bool)
        timeouts[-1] = True
        columns["observations"].append(observations[:-1])
        columns["next_observations"].append(observations[1:])
        columns["actions"].append(np.asarray(episode.actions).reshape(length, -1))
        columns["rewards"].append(np.asarray(episode.rewards))
        columns["terminals"].append(terminals)
        columns["timeouts"].append(timeouts & ~terminals)
    if not columns["rewards"]:
        raise dataset_error(source, "0 transitions; expected at least 1; choose another dataset")
    return {name: np.concatenate(parts) for name, parts in columns.items()}


def _flatten(observations: Any, names: tuple[str, ...] | None) -> Shaped[np.ndarray, "T1 O"]:
    """The observations of an episode of T transitions, T + 1 of them, each in one row."""
    parts = [observations] if names is None else [observations[name] for name in names]
    arrays = [np.asarray(part) for part in parts]
    return np.concatenate([array.reshape(len(array), -1) for array in arrays], axis=1)


def _broken(source: str, error: Exception) -> UserError:
    return dataset_error(
        source,
        f"its files in the local store cannot be read ({one_line(error)}); expected a complete "
        "Minari dataset; delete its folder and fetch or make it again",
    )


def _lacking(source: str, error: ImportError) -> UserError:
    """A package that Minari asks for only where it is needed: pyarrow, for its Arrow format."""
    text = one_line(error)
    found = re.search(r"^([A-Za-z_]\w*) is not installed|No module named '([\w.]+)'", text)
    package = next((name for name in found.groups() if name), "") if found else ""
    if not package and "arrow" in text.lower():
        package = "pyarrow"
    need = f"needs the package {package}" if package else "needs a package that is not installed"
    way = f"install it: pip install {package}" if package else "install what it names"
    arrow = " (its data are in the Arrow format)" if package == "pyarrow" else ""
    return dataset_error(source, f"{need}{arrow}, which is not installed ({text}); {way}")
