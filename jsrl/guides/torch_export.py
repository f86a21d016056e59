"""Guides from programs that ``torch.export.save`` wrote, files ``.pt2``.

A program is loaded by PyTorch, which unpickles parts of the file and evaluates expressions of
sizes that are in it: loading one can run code. Use files that you trust.
``scripts/examples/guide_torch_export.py`` is an example in ten lines.
"""

import contextlib
import json
import logging
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.core.specs import EnvSpec
from jsrl.guides.base import ForeignGuide, combine
from jsrl.guides.options import FileOptions, GuideInputs, guides
from jsrl.guides.row_memory import RemembersRows, RowMemory
from jsrl.guides.trial import try_file
from jsrl.guides.trust import TrustedOptions
from jsrl.guides.view import GuideView, environment_range

_NUMPY: dict[torch.dtype, type[np.floating[Any]]] = {
    torch.float32: np.float32,
    torch.float64: np.float64,
}

DYNAMIC = 'torch.export.export(module, inputs, dynamic_shapes=({0: torch.export.Dim("batch")},))'


class TorchExportPolicy(RemembersRows):
    """An exported program that maps one tensor ``[n, O']`` to one tensor ``[n, A]``.

    A recurrent program takes its state as further tensors ``[n, ...]``, and returns it in the same
    order behind the actions; an episode begins with zeros. A program that was exported for a single
    row is called row by row.

    Args:
        path: the file, as ``torch.export.save`` writes it.

    Raises:
        UserError: if it is missing, no such file, or has other inputs and outputs.
    """

    def __init__(self, path: Path) -> None:
        program = _load(path)
        inputs = _inputs(path, program)
        _check_inputs(path, inputs)
        _check_state(path, program, inputs)
        state = [np.zeros(tuple(map(int, v.shape[1:])), _NUMPY[v.dtype]) for v in inputs[1:]]
        super().__init__(RowMemory(state) if state else None)
        self.path = path
        self.module: Any = program.module()
        self.kinds = [value.dtype for value in inputs]
        self.columns = inputs[0].shape[1]
        self.takes_single_rows = isinstance(inputs[0].shape[0], int)

    def __call__(
        self,
        observations: Float[np.ndarray, "n O2"],
        seed_index: int,
        generator: np.random.Generator | None,
        rows: Int[np.ndarray, " n"] | None = None,
    ) -> Tensor:
        """What the program answers."""
        state = [] if rows is None else self.memory.take(rows)
        inputs = [torch.from_numpy(array) for array in (observations, *state)]
        inputs = [value.to(kind) for value, kind in zip(inputs, self.kinds, strict=True)]
        if self.takes_single_rows:
            found = [self._run([v[row : row + 1] for v in inputs]) for row in range(len(inputs[0]))]
            outputs = [torch.cat(parts) for parts in zip(*found, strict=True)]
        else:
            outputs = self._run(inputs)
        if rows is not None:
            self.memory.keep(rows, [value.numpy() for value in outputs[1:]])
        return outputs[0]

    def _run(self, inputs: list[Tensor]) -> list[Tensor]:
        try:
            with torch.no_grad():
                found = self.module(*inputs)
        # A guard of the program may raise anything.
        except Exception as error:
            shapes = ", ".join(str(tuple(value.shape)) for value in inputs)
            raise UserError(
                f"guide {self.path} failed on inputs of shape {shapes}: {_first_line(error)}; it "
                "must take any number of rows, and guide.observation must select what it was "
                "trained on"
            ) from error
        return [found] if isinstance(found, Tensor) else list(found)


def torch_export_guide(path: Path, view: GuideView, spec: EnvSpec, num_seeds: int) -> ForeignGuide:
    """The guide in the exported program ``path``, tried once on zeros.

    It answers in the environment's own bounds, unless ``view`` says otherwise.

    Raises:
        UserError: see ``TorchExportPolicy``; or if it takes or returns another shape.
    """
    path = Path(path)
    policy = TorchExportPolicy(path)
    guide = ForeignGuide(
        *(policy, view, spec, num_seeds),
        name=str(path),
        fingerprint=combine(path.read_bytes()),
        answers_in=environment_range(spec),
    )
    if isinstance(policy.columns, int) and policy.columns != guide.view.size:
        raise UserError(
            f"guide {path} takes {policy.columns} observation columns; {spec.id} gives it "
            f"{guide.view.size}; select those that it knows by guide.observation"
        )
    _refuse_hidden_memory(policy, guide.view.size)
    try_file(guide)
    return guide


def _refuse_hidden_memory(policy: TorchExportPolicy, size: int) -> None:
    """See that a call leaves the program's buffers as they are."""
    before = {name: buffer.clone() for name, buffer in policy.module.named_buffers()}
    rows = np.arange(1) if policy.stateful else None
    policy(np.zeros((1, size), np.float32), 0, None, rows)
    changed = [n for n, buffer in policy.module.named_buffers() if not buffer.equal(before[n])]
    if changed:
        raise UserError(
            f"guide {policy.path} changes its buffers {', '.join(changed)} as it acts, where a "
            "resumed run would not find what they were; make the state an input and an output, "
            "forward(self, x, state), and export in eval mode"
        )


def _load(path: Path) -> Any:
    """The program in the file."""
    key = f"guide.path={str(path)!r}"
    versions = _versions(path, key)
    try:
        with _quiet():
            return torch.export.load(path)
    # What is in the file decides what is raised.
    except Exception as error:
        raise UserError(
            f"{key} cannot be loaded by PyTorch {torch.__version__} ({_first_line(error)}); it was "
            f"saved by {versions}: export it again by a version that is near this one"
        ) from error


def _versions(path: Path, key: str) -> str:
    """Which version of PyTorch wrote a program, as its JSON says; reading it runs no code.

    Raises:
        UserError: if the file is missing, or no exported program.
    """
    if not path.is_file():
        raise UserError(f"{key} does not exist; expected a file that torch.export.save wrote")
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            form = [archive.read(n) for n in names if n.endswith("/archive_format")]
            models = [n for n in names if n.endswith("/models/model.json")]
            told = json.loads(archive.read(models[0])) if models else {}
    except (zipfile.BadZipFile, ValueError, OSError, EOFError) as error:
        raise UserError(
            f"{key} is not an exported program, or truncated; expected a file that "
            "torch.export.save wrote"
        ) from error
    if form != [b"pt2"] or not models:
        raise UserError(
            f"{key} is a zip, but not an exported program; expected a file that torch.export.save "
            "wrote; TorchScript has a kind of its own, guide=torchscript"
        )
    return f"PyTorch {told.get('torch_version', 'of an unknown version')}"


def _inputs(path: Path, program: Any) -> list[Tensor]:
    """What the program takes, as tensors of shapes alone.

    Raises:
        UserError: if it takes anything but tensors in a row.
    """
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    given = [nodes[name].meta.get("val") for name in program.graph_signature.user_inputs]
    # A tuple of arguments without names, none of which is a dictionary or a tuple itself.
    arguments, named = program.call_spec.in_spec.children()
    flat = all(child.is_leaf() for child in arguments.children()) and not named.children()
    if not given or not flat or not all(isinstance(value, Tensor) for value in given):
        raise UserError(
            f"guide {path} takes {program.call_spec.in_spec}".replace("\n", " ").replace("  ", "")
            + ", but is given one tensor (n, observations): wrap it in a module whose forward(self,"
            " x) calls it with what it was trained on, and export that"
        )
    return given


def _check_inputs(path: Path, inputs: list[Tensor]) -> None:
    """See that the program takes rows of real numbers, and any number of them or one."""
    shapes = [tuple(value.shape) for value in inputs]
    if len(shapes[0]) != 2 or any(len(shape) < 1 for shape in shapes):
        raise UserError(
            f"guide {path} takes tensors of the shapes {_shown(shapes)}; expected observations "
            "(n, observations) first; wrap it in a module that takes them, and export that"
        )
    wrong = next((v.dtype for v in inputs if v.dtype not in _NUMPY), None)
    if wrong is not None:
        raise UserError(
            f"guide {path} takes {wrong}; expected float32, or float64: wrap it in a module that "
            "converts, and export that"
        )
    fixed = [shape[0] for shape in shapes if isinstance(shape[0], int)]
    if fixed and (fixed[0] != 1 or len(fixed) != len(shapes)):
        raise UserError(
            f"guide {path} was exported for exactly {fixed[0]} rows, shapes {_shown(shapes)}, but "
            f"is asked for any number of them; export it again by {DYNAMIC}"
        )


def _check_state(path: Path, program: Any, inputs: list[Tensor]) -> None:
    """See that a recurrent program returns the state that it takes."""
    nodes = {node.name: node for node in program.graph.nodes}
    names = program.graph_signature.user_outputs
    outputs = [nodes[name].meta.get("val") if name in nodes else None for name in names]
    taken = [tuple(value.shape[1:]) for value in inputs[1:]]
    tensors = [value for value in outputs if isinstance(value, Tensor)]
    returned = [tuple(value.shape[1:]) for value in tensors[1:]]
    if len(tensors) != len(outputs) or taken != returned:
        raise UserError(
            f"guide {path} takes a state of {_state(taken)} and returns one of {_state(returned)}; "
            "a recurrent guide takes (x, *state) and returns (actions, *state), tensors of the "
            "same shapes in the same order, and one without a memory takes x and returns the "
            "actions"
        )


def _state(shapes: list[tuple[Any, ...]]) -> str:
    return "no tensor" if not shapes else f"the shapes {_shown([('n', *s) for s in shapes])}"


def _shown(shapes: list[tuple[Any, ...]]) -> str:
    return ", ".join(
        "(" + ", ".join(str(s) if isinstance(s, int) else "n" for s in shape) + ")"
        for shape in shapes
    )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what PyTorch logs of a file from the user; exceptions still pass."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


@dataclass
class TorchExportOptions(TrustedOptions, FileOptions):
    """Of ``guide=torch_export``."""

    WANTED = "a file .pt2 of torch.export.save"


@guides.register("torch_export", TorchExportOptions)
def make_torch_export(options: TorchExportOptions, inputs: GuideInputs) -> ForeignGuide:
    """The policy in an exported program. Loading it can run code."""
    options.check()
    path = Path(str(options.path))
    _versions(path, f"guide.path={options.path!r}")
    options.tell_of_code(str(path))
    guide = torch_export_guide(path, options.view(), inputs.spec, len(inputs.seeds))
    if isinstance(guide.act_rows, TorchExportPolicy) and guide.act_rows.takes_single_rows:
        options.tell(
            f"{path} was exported for one row, and is called once for each; {DYNAMIC} is faster"
        )
    return guide
