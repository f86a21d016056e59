"""Records what the layers of a network are given and answer, in the passes of one thread only.

Several threads may pass through the same network at a time, each with a monitor of its own or
without one. So what is attached to a module serves all recorders that are under way, and is removed
with the last of them; it passes on what it sees to the recorders of the thread that makes the pass.
The lock is held while modules are changed and never while a network works, so that a network that
starts threads, or calls itself, is not held up.

Where possible a *wrapper* takes the place of a layer's ``forward``, since a module with hooks of
PyTorch's is called by a slower path. Hooks are used on a module that has some already, which may
change what it answers, and in networks with fused layers, which run layer by layer only where a
layer has a hook.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from types import MethodType, TracebackType
from typing import Any, Self

from torch import Tensor, nn

Copy = Callable[[Any, str], Tensor]
"""Copies the tensor of what a layer of this name was given or answered."""


class PassRecorder:
    """Records one or several passes of one thread through a network. It is a context.

    Args:
        attachments: what is attached to the layers that are recorded.
        outputs: by the identity of a module, the name of what it answers.
        inputs: the identity of the module whose arguments are recorded, and their name; None for
            none.
        copy: copies what is recorded. Whatever it raises is kept as ``fault``, and the pass goes
            on.
        into: takes the copies by their names; of a layer that is used several times, the last one.
        raises: whether the fault is raised at the end, unless something else is raised.
    """

    __slots__ = ("_attachments", "_copy", "_inputs", "_outputs", "_raises", "fault", "into")

    def __init__(
        self,
        attachments: Sequence["Attachment"],
        outputs: Mapping[int, str],
        inputs: tuple[int, str] | None,
        copy: Copy,
        into: dict[str, Tensor],
        raises: bool,
    ) -> None:
        self._attachments = attachments
        self._outputs = outputs
        self._inputs = inputs
        self._copy = copy
        self._raises = raises
        self.into = into
        self.fault: Exception | None = None

    def begin(self) -> None:
        """Record the passes of this thread from now on."""
        _attach(self._attachments)
        _THREAD.recorders.append(self)

    def end(self) -> None:
        """Stop recording; the thread that began has to call this."""
        # The innermost comes last, except where generators end in another order.
        _THREAD.recorders.remove(self)
        _detach(self._attachments)

    def __enter__(self) -> Self:
        self.begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()
        if self._raises and kind is None and self.fault is not None:
            raise self.fault

    def given(self, module: int, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Record the arguments of the module of this identity, if they are wanted."""
        if self._inputs is not None and self._inputs[0] == module:
            self._record(next(iter((*arguments, *named.values())), None), self._inputs[1])

    def answered(self, module: int, output: Any) -> None:
        """Record the answer of the module of this identity, if it is wanted."""
        name = self._outputs.get(module)
        if name is not None:
            self._record(output, name)

    def _record(self, value: Any, name: str) -> None:
        try:
            self.into[name] = self._copy(value, name)
        except Exception as error:  # Whoever acts is not to notice that somebody looks on.
            self.fault = self.fault or error


class _Recorders(threading.local):
    """The recorders that this thread has begun and not ended, the innermost last."""

    def __init__(self) -> None:
        self.recorders: list[PassRecorder] = []


_THREAD = _Recorders()
_LOCK = threading.Lock()


class ForwardWrapper:
    """Calls a module's own ``forward``, and passes what it sees on to this thread's recorders."""

    __slots__ = ("identity", "key", "module", "own", "patched", "users")

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.identity = id(module)
        self.key = self.identity, "forward"
        self.users = 0

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        recorders, identity = _THREAD.recorders, self.identity
        for recorder in recorders:
            recorder.given(identity, arguments, named)
        output = self.own(*arguments, **named)
        for recorder in recorders:
            recorder.answered(identity, output)
        return output

    def attach(self) -> None:
        """Take the place of the module's present ``forward``."""
        self.patched = "forward" in self.module.__dict__
        self.own = self.module.forward
        self.module.__dict__["forward"] = self

    def detach(self) -> None:
        """Put back the ``forward`` that was there."""
        # Whoever has put something else there since keeps it; it goes on through this one.
        if self.module.__dict__.get("forward") is self:
            if self.patched:
                self.module.__dict__["forward"] = self.own
            else:
                del self.module.__dict__["forward"]

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """What the copy of a network has here, if another thread records the network meanwhile."""
        copied = memo.get(id(self.module))
        if self.patched or copied is None:
            return self.own
        return _own_forward(copied)

    def __reduce__(self) -> tuple[Any, ...]:
        """What a network has here once it was pickled, while another thread recorded it."""
        if self.patched:
            return _itself, (self.own,)
        return _own_forward, (self.module,)


def _itself(value: Any) -> Any:
    return value


def _own_forward(module: nn.Module) -> MethodType:
    return MethodType(type(module).forward, module)


def _inputs_hook(
    module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any] | None = None
) -> None:
    """A hook of PyTorch's. While another thread removes it, it may be called without ``named``."""
    for recorder in _THREAD.recorders:
        recorder.given(id(module), arguments, named or {})


def _outputs_hook(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
    """A hook of PyTorch's; being a plain function, it does not keep a module from being pickled."""
    for recorder in _THREAD.recorders:
        recorder.answered(id(module), output)


class ForwardHooks:
    """Passes what a module is given and answers on to this thread's recorders, by hooks."""

    __slots__ = ("handles", "key", "module", "users")

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.key = id(module), "hooks"
        self.users = 0

    def attach(self) -> None:
        """Add hooks after those that are there."""
        self.handles = (
            self.module.register_forward_pre_hook(_inputs_hook, with_kwargs=True),
            self.module.register_forward_hook(_outputs_hook),
        )

    def detach(self) -> None:
        """Remove these hooks, and leave those of others."""
        for handle in self.handles:
            handle.remove()


Attachment = ForwardWrapper | ForwardHooks

_ATTACHED: dict[tuple[int, str], Attachment] = {}
"""What is attached to modules now, by their identity and the way it is attached."""


def _attach(attachments: Sequence[Attachment]) -> None:
    """Attach what is not there yet: all of it, or none of it if a module cannot be changed."""
    with _LOCK:
        for number, attachment in enumerate(attachments):
            there = _ATTACHED.get(attachment.key)
            if there is None:
                try:
                    attachment.attach()
                except BaseException:
                    _release(attachments[:number])
                    raise
                _ATTACHED[attachment.key] = there = attachment
            there.users += 1


def _detach(attachments: Sequence[Attachment]) -> None:
    with _LOCK:
        _release(attachments)


def _release(attachments: Sequence[Attachment]) -> None:
    """Give up the use of attachments, and remove those that nobody uses any more."""
    for attachment in attachments:
        # The attachment of whoever was the first to record this module.
        there = _ATTACHED[attachment.key]
        there.users -= 1
        if there.users == 0:
            del _ATTACHED[attachment.key]
            there.detach()
