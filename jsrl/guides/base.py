"""What all guides share: how they are called, and the guard on their answers."""

import hashlib
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.core.protocols import ResetsRows, Stochastic, has_memory
from jsrl.core.specs import EnvSpec
from jsrl.core.streams import Streams
from jsrl.core.transitions import Observation
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
        observations: Float[np.ndarray, "n O2"],
        seed_index: int,
        generator: np.random.Generator | None,
    ) -> Any:
        """Actions ``[n, A]``, in the range of the guide's view. The generator is fresh at every
        call, and None where the mode is wanted or the policy is not ``stochastic``."""
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

    Raises:
        UserError: if the view does not fit the environment, or a policy with memory has no reset.
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
    ) -> None:
        self.act_rows = act_rows
        self.view = view.bind(spec, answers_in)
        self.num_seeds = num_seeds
        self.action_size = spec.action_size
        self._action_shape = spec.action_shape or (spec.action_size,)
        self.name = name
        self.fingerprint = combine(fingerprint, self.view.values)
        self.stochastic = isinstance(act_rows, Stochastic) and bool(act_rows.stochastic)
        self.stateful = has_memory(act_rows)
        if self.stateful and not isinstance(act_rows, ResetsRows):
            raise UserError(f"guide {name} says stateful = True; give it a method reset(rows)")

    def act(
        self, obs: Observation, streams: Streams | None, mask: Bool[Tensor, "S E"]
    ) -> Float[Tensor, "S E A"]:
        """Actions in [-1, 1] for the rows in ``mask``; see ``Guide.act``."""
        actions = torch.zeros(*obs.shape[:2], self.action_size)
        device = obs.device
        obs, rows_of = obs.detach().cpu(), mask.cpu()
        for seed_index in range(self.num_seeds):
            rows = rows_of[seed_index]
            if not rows.any():
                continue
            observed = self.view.observe(obs[seed_index][rows]).numpy()
            generator = None
            if self.stochastic and streams is not None:
                own = streams.select(seed_index)
                # One integer a call, so that nothing but the stream needs saving for a resume.
                generator = np.random.default_rng(int(own.integers("guide", 2**63 - 1, ())[0]))
            extra = {"rows": self._ids(rows_of, seed_index)} if self.stateful else {}
            answers = self.act_rows(observed, seed_index, generator, **extra)
            answers = self.as_tensor(answers, len(observed))
            actions[seed_index, rows] = self.view.respond(answers, self.name)
        return actions.to(device)

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
        """The guide's answers as float32 ``[rows, A]``; each may have the environment's shape."""
        if isinstance(answers, Tensor):
            answers = answers.detach().cpu().numpy()
        expected = f"expected an array of shape ({rows}, {self.action_size})"
        if isinstance(answers, tuple):
            raise UserError(
                f"guide {self.name} returned a tuple of {len(answers)}; {expected}; a policy whose "
                "predict returns (actions, state), as in Stable-Baselines3, needs a wrapper, "
                "as in scripts/examples/guide_stable_baselines3.py"
            )
        try:
            with np.errstate(over="ignore"):  # too large for float32: refused as not finite
                array = np.array(answers, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise UserError(
                f"guide {self.name} returned {type(answers).__name__}: {error}; {expected}"
            ) from error
        if array.shape == (rows, *self._action_shape):
            array = array.reshape(rows, self.action_size)
        if array.shape != (rows, self.action_size):
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
