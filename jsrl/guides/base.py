"""What all guides share: how they are called, and the guard on their answers."""

import hashlib
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.core.foreign import ResetsRows, Stochastic, has_memory
from jsrl.core.observations import Observation, as_given
from jsrl.core.specs import BoxActions, EnvSpec
from jsrl.core.streams import Streams
from jsrl.guides.view import POLICY_RANGE, ActionRange, GuideView


class RowPolicy(Protocol):
    """What ``ForeignGuide`` wraps: actions for a NumPy batch of observations of one seed.

    Two optional attributes: ``stochastic = True`` asks for a generator; ``stateful = True``, for a
    policy with memory, has it called with the extra keyword ``rows`` (int64 ``[n]``, the identity
    of each row, the same for all steps of an episode) and requires ``reset(rows=...)``, called
    when new episodes begin in those rows.
    """

    def __call__(
        self,
        observations: Any,
        seed_index: int,
        generator: np.random.Generator | None,
    ) -> Any:
        """Actions ``[n, A]``, in the range of the guide's view, or choices ``[n]``.

        Observations are vectors ``[n, O']``, flat where the environment gives a dictionary. Where
        the guide sees images they are as the environment gives them, with a leading axis: an array,
        or a dictionary of them. The generator is fresh at every call, and None where the mode is
        wanted or the policy is not ``stochastic``.
        """
        ...


class ForeignGuide:
    """A guide around anything that maps a NumPy batch ``[n, O']`` to actions ``[n, A]``.

    It is called once for each seed that has rows in the mask, with these rows alone, so that what
    one seed gets depends neither on the others nor on rows it does not act for. A seed without
    rows causes no call.

    Args:
        act_rows: see ``RowPolicy``.
        view: the guide's observations and actions.
        spec: the environment's.
        num_seeds: S.
        name: what messages call this guide.
        fingerprint: a hash of what ``act_rows`` is; the view is added to it.
        answers_in: the range in which ``act_rows`` answers where the view does not say.
        takes_images: whether ``act_rows`` knows what to do with images.
        given_as: makes what ``act_rows`` is called with; None for what ``RowPolicy`` says.

    Raises:
        UserError: if the view does not fit the environment, a policy with memory has no reset, or
            there are images for one that takes none.
    """

    def __init__(
        self,
        act_rows: RowPolicy,
        view: GuideView,
        spec: EnvSpec,
        num_seeds: int,
        name: str,
        fingerprint: str,
        answers_in: ActionRange = POLICY_RANGE,
        takes_images: bool = False,
        given_as: Callable[[Observation], Any] | None = None,
    ) -> None:
        self.act_rows = act_rows
        self.view = view.bind(spec, answers_in)
        if self.view.images and not takes_images:
            raise UserError(
                f"guide {name} takes vectors only, and {spec.id} observes the images "
                f"{', '.join(self.view.images)}; name the other parts that it knows by "
                "guide.observation, or use guide=run or guide=python"
            )
        if self.view.images:
            self.view.require_whole_parts(name)
        self.given_as = given_as
        self.num_seeds = num_seeds
        self.actions = spec.actions
        self.name = name
        self.fingerprint = combine(fingerprint, self.view.values)
        self.stochastic = isinstance(act_rows, Stochastic) and bool(act_rows.stochastic)
        self.stateful = has_memory(act_rows)
        if self.stateful and not isinstance(act_rows, ResetsRows):
            raise UserError(f"guide {name} says stateful = True; give it a method reset(rows)")

    def act(
        self, obs: Observation, streams: Streams | None, mask: Bool[Tensor, "S E"]
    ) -> Shaped[Tensor, "S E *A"]:
        """Actions for the rows in ``mask``; see ``Guide.act``."""
        chooses = not isinstance(self.actions, BoxActions)
        kind = torch.int64 if chooses else torch.float32
        actions = torch.zeros(*obs.leading, *self.actions.chosen_shape, dtype=kind)
        device = obs.device
        obs, rows_of = obs.to(torch.device("cpu")), mask.cpu()
        for seed_index in range(self.num_seeds):
            rows = rows_of[seed_index]
            if not rows.any():
                continue
            observed = self.given(self.view.observe(obs[seed_index][rows]))
            generator = None
            if self.stochastic and streams is not None:
                own = streams.select(seed_index)
                # One integer a call, so that nothing but the stream needs saving for a resume.
                generator = np.random.default_rng(int(own.integers("guide", 2**63 - 1, ())[0]))
            extra = {"rows": self._ids(rows_of, seed_index)} if self.stateful else {}
            answers = self.act_rows(observed, seed_index, generator, **extra)
            answers = self.as_tensor(answers, int(rows.sum()))
            actions[seed_index, rows] = self.view.respond(answers, self.name)
        return actions.to(device)

    def given(self, observed: Observation) -> Any:
        """What ``act_rows`` is called with for observations that the view has made."""
        if self.given_as is not None:
            return self.given_as(observed)
        if not self.view.images:
            return observed.vector.detach().numpy()
        return as_given(self.view.seen_spec(), observed)

    def reset(self, mask: Bool[Tensor, "S E"]) -> None:
        """New episodes begin in the rows of ``mask``: only a policy with memory is told."""
        if not self.stateful:
            return
        rows_of = mask.cpu()
        for seed_index in range(self.num_seeds):
            if rows_of[seed_index].any():
                assert isinstance(self.act_rows, ResetsRows)  # __init__ has seen to it
                self.act_rows.reset(rows=self._ids(rows_of, seed_index))

    @staticmethod
    def _ids(rows_of: Tensor, seed_index: int) -> np.ndarray:
        own = rows_of[seed_index].nonzero().squeeze(-1).numpy()
        ids: np.ndarray = own + seed_index * rows_of.shape[1]
        return ids

    def as_tensor(self, answers: Any, rows: int) -> Tensor:
        """The guide's answers as float32 ``[rows, A]``, or choices ``[rows]``.

        Each may have the environment's shape.
        """
        if isinstance(answers, Tensor):
            answers = answers.detach().cpu().numpy()
        wanted = (rows, *self.actions.chosen_shape)
        expected = f"expected an array of shape {wanted}"
        if isinstance(answers, tuple):
            raise UserError(
                f"guide {self.name} returned a tuple of {len(answers)}; {expected}; a policy whose "
                "predict returns (actions, state), as in Stable-Baselines3, needs guide=sb3, which "
                "takes its file, or a wrapper that returns the actions alone"
            )
        try:
            with np.errstate(over="ignore"):  # too large for float32: refused as not finite
                array = np.array(answers, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise UserError(
                f"guide {self.name} returned {type(answers).__name__}: {error}; {expected}"
            ) from error
        own = self.actions.shape if isinstance(self.actions, BoxActions) else (1,)
        if array.shape == (rows, *own):
            array = array.reshape(wanted)
        if array.shape != wanted:
            raise UserError(
                f"guide {self.name} returned an array of shape {array.shape}; {expected}"
            )
        return torch.from_numpy(array)


def combine(*parts: Any) -> str:
    """SHA-256 over plain values, tensors and bytes: a fingerprint."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            array = part.detach().cpu().contiguous().numpy()
            digest.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
        elif isinstance(part, bytes):
            digest.update(part)
        else:
            digest.update(repr(part).encode())
        digest.update(b"\0")
    return digest.hexdigest()
