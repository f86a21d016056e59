"""What the layers of a deployed policy say in a pass, without ever stopping the pass."""

from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.monitor.capture.forward_passes import PassRecorder
from jsrl.monitor.capture.layers import LayerCapture
from jsrl.monitor.watch.health import MonitorHealth


class DeployedLayers:
    """The layers that are watched: those that said something when they were first looked at.

    Args:
        capture: the layers that were asked for.
        health: is told of whatever fails.
    """

    def __init__(self, capture: LayerCapture, health: MonitorHealth) -> None:
        self._capture = capture
        self._health = health
        self._layers: tuple[str, ...] | None = None

    def begin(self) -> PassRecorder | None:
        """Record the passes of this thread from now on; None where that is not possible."""
        try:
            recorder = self._capture.recorder_that_never_raises()
            recorder.begin()
            return recorder
        except Exception as error:  # Modules of others may not take what is put on them.
            self._health.note("look", error)
            return None

    def observed(self, recorder: PassRecorder) -> dict[str, Tensor]:
        """What the watched layers said.

        Raises:
            Exception: if none of them did, or one of those that are watched says nothing now.
        """
        said = recorder.into
        if self._layers is None and said:
            silent = [name for name in self._capture.layers if name not in said]
            if silent:
                text = f"{', '.join(silent)} said nothing that a monitor can look at"
                self._health.note("layer", recorder.fault or UserError(text))
            self._layers = tuple(name for name in self._capture.layers if name in said)
        watched = self._layers or tuple(self._capture.layers)
        if any(name not in said for name in watched):
            if recorder.fault is not None:
                raise recorder.fault
            self._capture.require_all({*said, *(set(self._capture.layers) - set(watched))})
        return {name: said[name] for name in watched}
