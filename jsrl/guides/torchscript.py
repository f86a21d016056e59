"""Guides from a TorchScript file.

A TorchScript file is a program: loading and calling one can run code. Use files that you trust.
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from jsrl.errors import UserError
from jsrl.guides.base import ForeignGuide, GuideView, combine
from jsrl.types import EnvSpec

_plain_execution: Any = vars(torch.jit)["optimized_execution"]  # public, but not typed


class TorchScriptPolicy:
    """A TorchScript module that maps one float32 ``[n, O']`` to one tensor ``[n, A]``.

    Args:
        path: the file, as ``torch.jit.save`` writes it.

    Raises:
        UserError: if it is missing or not a TorchScript file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise UserError(f"guide.path={str(path)!r} does not exist; expected a TorchScript file")
        try:
            with warnings.catch_warnings():
                # That the format is frozen upstream is nothing a user of this guide can change.
                warnings.simplefilter("ignore", DeprecationWarning)
                load: Any = torch.jit.load
                self.module = load(str(path), map_location="cpu").eval()
        except (RuntimeError, ValueError, EOFError) as error:
            raise UserError(
                f"guide.path={str(path)!r} is not a TorchScript file, or truncated; expected one "
                "written by torch.jit.save"
            ) from error

    def __call__(
        self,
        observations: Float[np.ndarray, "n O2"],
        seed_index: int,
        generator: np.random.Generator | None,
    ) -> Tensor:
        """What the module returns."""
        try:
            # The profiling executor may rewrite the module after its first calls, and round
            # otherwise from then on; a resumed run would differ.
            with torch.no_grad(), _plain_execution(False):
                answers = self.module(torch.from_numpy(observations))
        except (RuntimeError, torch.jit.Error) as error:
            raise UserError(
                f"guide {self.path} failed on observations of shape {observations.shape}: "
                f"{str(error).strip().splitlines()[-1]}; does guide.observation select what it "
                "was trained on?"
            ) from error
        if not isinstance(answers, Tensor):
            raise UserError(
                f"guide {self.path} returned {type(answers).__name__}; expected one tensor"
            )
        return answers


def torchscript_guide(path: Path, view: GuideView, spec: EnvSpec, num_seeds: int) -> ForeignGuide:
    """The guide in the TorchScript file ``path``, tried once on zeros.

    Raises:
        UserError: if the file is missing, is no such file, or takes or returns another shape.
    """
    policy = TorchScriptPolicy(Path(path))
    guide = ForeignGuide(
        policy,
        view,
        spec,
        num_seeds,
        name=str(path),
        fingerprint=combine(Path(path).read_bytes()),
    )
    guide.try_shapes()
    return guide
