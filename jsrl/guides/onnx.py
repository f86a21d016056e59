"""Guides from an ONNX file, run by ``onnxruntime`` (an extra). Loading one runs no code."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from jsrl.core.errors import UserError
from jsrl.core.specs import EnvSpec
from jsrl.guides.base import ForeignGuide, combine
from jsrl.guides.options import FileOptions, GuideInputs, guides
from jsrl.guides.trial import try_file
from jsrl.guides.view import GuideView, environment_range


class OnnxPolicy:
    """An ONNX model that maps one float32 ``[n, O']`` to one tensor ``[n, A]``, n being dynamic.

    Args:
        path: the file.

    Raises:
        UserError: if ``onnxruntime`` is not installed, or the file is missing, is not ONNX, or has
            other inputs and outputs.
    """

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
            from onnxruntime.capi import onnxruntime_pybind11_state as errors
        except ImportError as error:
            raise UserError(
                "guide=onnx needs onnxruntime, which is not installed; "
                "pip install 'jsrl-torch[onnx]'"
            ) from error
        self.path = path
        # onnxruntime's errors have no base class of their own.
        self.errors: tuple[type[Exception], ...] = (
            errors.Fail,
            errors.InvalidArgument,
            errors.InvalidGraph,
            errors.InvalidProtobuf,
            errors.NoSuchFile,
            errors.NotImplemented,
            errors.RuntimeException,
        )
        if not path.is_file():
            raise UserError(f"guide.path={str(path)!r} does not exist; expected an ONNX file")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self.session: Any = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except self.errors as error:
            raise UserError(
                f"guide.path={str(path)!r} is not an ONNX file, or truncated: "
                f"{str(error).splitlines()[0]}"
            ) from error
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1 or inputs[0].type != "tensor(float)":
            found = [(node.name, node.type, node.shape) for node in [*inputs, *outputs]]
            raise UserError(
                f"guide.path={str(path)!r} has the inputs and outputs {found}; expected one "
                "float32 input [n, observations] and one output [n, actions]"
            )
        self.input = inputs[0].name

    def __call__(
        self,
        observations: Float[np.ndarray, "n O2"],
        seed_index: int,
        generator: np.random.Generator | None,
    ) -> Any:
        """What the model returns."""
        try:
            return self.session.run(None, {self.input: observations})[0]
        except self.errors as error:
            raise UserError(
                f"guide {self.path} failed on observations of shape {observations.shape}: "
                f"{str(error).splitlines()[0]}; it must take any number of rows, and "
                "guide.observation must select what it was trained on"
            ) from error


def onnx_guide(path: Path, view: GuideView, spec: EnvSpec, num_seeds: int) -> ForeignGuide:
    """The guide in the ONNX file ``path``, tried once on zeros.

    Raises:
        UserError: see ``OnnxPolicy``; or if it takes or returns another shape.
    """
    policy = OnnxPolicy(Path(path))
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


@dataclass
class OnnxOptions(FileOptions):
    """Of ``guide=onnx``."""

    WANTED = "an ONNX file"


@guides.register("onnx", OnnxOptions)
def make_onnx(options: OnnxOptions, inputs: GuideInputs) -> ForeignGuide:
    """The policy in an ONNX file. Loading it runs no code."""
    options.check()
    return onnx_guide(Path(str(options.path)), options.view(), inputs.spec, len(inputs.seeds))
