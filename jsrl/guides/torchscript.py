"""Guides from a TorchScript file.

A TorchScript file is a program: loading and calling one can run code. Use files that you trust.
"""

import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.core.specs import EnvSpec
from jsrl.guides.base import ForeignGuide, combine
from jsrl.guides.options import FileOptions, GuideInputs, guides
from jsrl.guides.trial import try_file
from jsrl.guides.trust import TrustedOptions
from jsrl.guides.view import GuideView, environment_range

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
    _require_one_tensor(policy, spec)
    guide = ForeignGuide(
        policy,
        view,
        spec,
        num_seeds,
        name=str(path),
        fingerprint=combine(Path(path).read_bytes()),
        answers_in=environment_range(spec),
    )
    try_file(guide)
    return guide


def _require_one_tensor(policy: TorchScriptPolicy, spec: EnvSpec) -> None:
    """See that the module's ``forward`` takes one tensor, and no dictionary of them."""
    schema: Any = getattr(policy.module.forward, "schema", None)
    if schema is None:
        return
    inputs = [a for a in schema.arguments[1:] if not a.has_default_value()]
    kinds = [str(argument.type) for argument in inputs]
    if kinds == ["Tensor"]:
        return
    parts = ", ".join(
        f"{name!r}: x[:, {start}:{stop}]" for name, start, stop in spec.observation.layout
    )
    what = "a dictionary" if kinds and kinds[0].startswith("Dict") else f"({', '.join(kinds)})"
    raise UserError(
        f"guide {policy.path} takes {what}, but is given one tensor x of shape "
        f"(n, {spec.observation.size}): wrap it in a module whose forward(self, x) calls it with "
        f"{{{parts}}}, or with what else it was trained on, and save that by torch.jit.script"
    )


@dataclass
class TorchScriptOptions(TrustedOptions, FileOptions):
    """Of ``guide=torchscript``."""

    WANTED = "a TorchScript file"


@guides.register("torchscript", TorchScriptOptions)
def make_torchscript(options: TorchScriptOptions, inputs: GuideInputs) -> ForeignGuide:
    """The policy in a TorchScript file. Loading it can run code."""
    options.check()
    path = Path(str(options.path))
    # What is no archive is refused before anything of it is read.
    if zipfile.is_zipfile(path):
        options.tell_of_code(str(path))
    return torchscript_guide(path, options.view(), inputs.spec, len(inputs.seeds))
