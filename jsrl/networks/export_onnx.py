"""ONNX files that take one observation as well as a batch."""

from pathlib import Path
from typing import Any

from jsrl.core.errors import UserError


def require_onnx() -> None:
    """Import what writes and reads ONNX.

    Raises:
        UserError: if a package is not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"ONNX export needs {error.name}, which is not installed; pip install "
            "'jsrl-torch[onnx]'; the TorchScript file was written"
        ) from error


def onnx_session(path: Path) -> Any:
    """The model at ``path``, ready to run on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def give_any_rank(path: Path, observation_size: int, *, chooses: bool) -> None:
    """Let the model at ``path`` take ``[O]`` and ``[n, O]``, in place.

    The exporter fixes the rank of an input. Here the input is declared without a shape, made rows
    before the network, and the actions get the leading axes of the observation back. onnxruntime
    runs such a model; ``onnx.checker`` asks for a shape, which would have to name one rank.

    Args:
        path: a model of one input, ``rows`` ``[n, O]``, and one output, ``row_actions``
            ``[n, ...]``. Afterwards they are called ``observation`` and ``action``.
        observation_size: O.
        chooses: whether actions are choices, int64.
    """
    import onnx
    from onnx import TensorProto, helper

    make_node: Any = helper.make_node
    model: Any = onnx.load(str(path))
    graph = model.graph
    constants = {
        "jsrl.last": [-1],
        "jsrl.0": [0],
        "jsrl.1": [1],
        "jsrl.end": [2**31],
        "jsrl.sized": [0, observation_size],
    }
    for name, values in constants.items():
        tensor = helper.make_tensor(name, TensorProto.INT64, [len(values)], values)
        graph.initializer.append(tensor)

    def node(kind: str, inputs: str, output: str, **attributes: int) -> Any:
        return make_node(kind, inputs.split(), [output], **attributes)

    before = [
        node("Shape", "observation", "jsrl.shape"),
        node("Slice", "jsrl.shape jsrl.last jsrl.end jsrl.0", "jsrl.size"),
        node("Slice", "jsrl.shape jsrl.0 jsrl.last jsrl.0", "jsrl.leading"),
        node("Concat", "jsrl.last jsrl.size", "jsrl.rows_shape", axis=0),
        node("Reshape", "observation jsrl.rows_shape", "jsrl.rows"),
        # As many rows, of the network's size: this fails for observations of another one.
        node("Reshape", "jsrl.rows jsrl.sized", "rows"),
    ]
    after = [
        node("Shape", "row_actions", "jsrl.actions_shape"),
        node("Slice", "jsrl.actions_shape jsrl.1 jsrl.end jsrl.0", "jsrl.own_shape"),
        node("Concat", "jsrl.leading jsrl.own_shape", "jsrl.action_shape", axis=0),
        node("Reshape", "row_actions jsrl.action_shape", "action"),
    ]
    kind = TensorProto.INT64 if chooses else TensorProto.FLOAT
    nodes = [*before, *graph.node, *after]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    graph.input.append(helper.make_tensor_value_info("observation", TensorProto.FLOAT, None))
    graph.output.append(helper.make_tensor_value_info("action", kind, None))
    onnx.save(model, str(path))
