"""A person as the guide: keyboard or gamepad, through ``pygame`` (an extra).

A window shows what the environment's ``render`` gives while the person acts, and in all steps with
``arbiter=human``, where the person may take over in any. Escape, or closing the window, stops the
command as Ctrl-C does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int, Shaped
from numpy.typing import NDArray
from torch import Tensor

from jsrl.core.arbitration import Signals
from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.specs import BoxActions, DiscreteActions, EnvSpec
from jsrl.core.streams import Streams
from jsrl.guides.base import combine
from jsrl.guides.keys import keys_moved
from jsrl.guides.options import GuideInputs, GuideOptions, guides
from jsrl.guides.view import POLICY_RANGE, GuideView, environment_range
from jsrl.guides.window import Window

PAIRS = (("left", "right"), ("down", "up"), ("a", "d"), ("s", "w"), ("f", "h"), ("g", "t"))
"""Keys for the lower and the upper end of each dimension of an action, where none are given."""


class Controls:
    """What keys, buttons and axes stand for.

    Names are those of ``pygame.key.name`` (``left``, ``space``, ``a``; an underscore stands for a
    blank), ``button_N`` and ``axis_N`` of the first gamepad.

    Args:
        keys: an action ``[A]`` for each name, or a choice as the environment numbers them. What is
            held down together adds up; an axis counts as far as it is pushed.
        idle: what is done where nothing is held: an action or a choice. None is 0 for actions; for
            choices it is to wait for the person.
        spec: of the environment.

    Raises:
        UserError: if an action has another size, or a choice is none of the environment's.
    """

    def __init__(self, keys: Mapping[str, Any], idle: Any, spec: EnvSpec) -> None:
        self._spec = spec
        self.effects = {
            name: self._effect(f"guide.keys.{name}", value) for name, value in keys.items()
        }
        self._idle = None if idle is None else self._effect("guide.idle", idle)
        if self._idle is None and isinstance(spec.actions, BoxActions):
            self._idle = np.zeros(spec.actions.size, np.float32)
        for name in self.effects:
            if name.startswith("axis_") and not isinstance(spec.actions, BoxActions):
                raise UserError(
                    f"guide.keys.{name}: {spec.id} takes choices, which an axis cannot give; use "
                    "button_N or a key"
                )

    def answer(self, held: Mapping[str, float]) -> NDArray[Any] | None:
        """The action for what is held, by name and how far; None to wait for the person.

        Of several choices that are held the one that was pressed last counts.
        """
        if isinstance(self._spec.actions, DiscreteActions):
            return self.effects[list(held)[-1]] if held else self._idle
        if not held:
            return self._idle
        total = np.sum([far * self.effects[name] for name, far in held.items()], axis=0)
        return np.clip(total, -1, 1).astype(np.float32)

    def _effect(self, key: str, value: Any) -> NDArray[Any]:
        actions = self._spec.actions
        choices = isinstance(actions, DiscreteActions)
        try:
            effect = np.array(value, np.int64 if choices else np.float32)
        except (TypeError, ValueError) as error:
            raise UserError(f"{key}={value!r} is no action: {error}") from error
        if isinstance(actions, DiscreteActions):
            last = actions.start + actions.n - 1
            number = int(effect) if effect.shape == () else None
            if number is None or number != value or not actions.start <= number <= last:
                raise UserError(
                    f"{key}={value!r}: the choices of {self._spec.id} are {actions.start} to {last}"
                )
        elif effect.shape != (actions.size,) or not (np.abs(effect) <= 1).all():
            raise UserError(
                f"{key}={value!r}: expected {actions.size} numbers from -1 to 1, the ends of the "
                f"action range of {self._spec.id}"
            )
        return effect


def default_keys(spec: EnvSpec, gamepad: bool) -> dict[str, Any]:
    """What keys stand for where the configuration does not say.

    Actions: ``PAIRS``, one for each dimension, or the gamepad's axes in their order, of which those
    with odd numbers are turned round, since up is negative there. Choices: the digits, and left and
    right for the first and the last of two or three; or the gamepad's buttons in their order.

    Raises:
        UserError: if there are more dimensions or choices than keys.
    """
    actions = spec.actions
    if isinstance(actions, DiscreteActions):
        choices = range(actions.start, actions.start + actions.n)
        if gamepad:
            return {f"button_{index}": choice for index, choice in enumerate(choices)}
        _require_keys(actions.n, 10, spec)
        keys = {str(index): choice for index, choice in enumerate(choices)}
        ends = {"left": choices[0], "right": choices[-1]} if actions.n in (2, 3) else {}
        return {**keys, **ends}
    unit = np.eye(actions.size).tolist()
    if gamepad:
        signs = [-1.0 if index % 2 else 1.0 for index in range(actions.size)]
        return {f"axis_{i}": [sign * x for x in unit[i]] for i, sign in enumerate(signs)}
    _require_keys(actions.size, len(PAIRS), spec)
    found: dict[str, Any] = {}
    for (low, high), own in zip(PAIRS, unit, strict=False):
        found |= {low: [-x for x in own], high: own}
    return found


def _require_keys(wanted: int, there: int, spec: EnvSpec) -> None:
    if wanted > there:
        raise UserError(
            f"guide=human has default keys for {there} dimensions or choices, and {spec.id} has "
            f'{wanted}; name your own, such as "guide.keys={{left: ACTION, right: ACTION}}"'
        )


class HumanGuide:
    """A person, for one environment of one seed.

    Args:
        controls: what keys, buttons and axes stand for.
        spec: of the environment.
        frames_per_second: at most so many steps a second are taken.

    Raises:
        UserError: if ``pygame`` is not installed, there is no display, or a key is unknown.
    """

    stateful = False
    needs_frames = True

    def __init__(self, controls: Controls, spec: EnvSpec, frames_per_second: float) -> None:
        self._controls = controls
        chooses = isinstance(spec.actions, DiscreteActions)
        self._view = GuideView().bind(spec, environment_range(spec) if chooses else POLICY_RANGE)
        self._spec = spec
        self._rate = frames_per_second
        self._window = Window(controls.effects, f"{spec.id}: you are the guide")
        self._signals: Signals | None = None
        self._polled: dict[str, float] | None = None
        self.fingerprint = combine(
            "human", [(name, effect.tolist()) for name, effect in controls.effects.items()]
        )

    def lines(self) -> list[str]:
        """How the person acts."""
        keys = ", ".join(f"{n} {e.tolist()}" for n, e in self._controls.effects.items())
        told = [f"guide=human: {keys}; escape or closing the window stops, as Ctrl-C does"]
        if self._signals is not None:
            by = [self._signals.take_over, "any of these" if self._signals.by_action else None]
            takes = " or ".join(name for name in by if name is not None)
            told.append(f"guide=human: {takes} takes over, {self._signals.give_back} gives back")
        return told

    def listen(self, signals: Signals) -> None:
        """Take over and give back by these keys; see ``TakesOver``."""
        names = {"take_over": signals.take_over, "give_back": signals.give_back}
        given = {key: name for key, name in names.items() if name is not None}
        moved = {f"keys.{name}": f"{key}={name}" for key, name in given.items()}
        with keys_moved("guide", "arbiter", moved):
            self._window.add(list(given.values()))
        self._signals = signals

    def takeover(self, acting: Bool[Tensor, "S E"]) -> Int[Tensor, "S E"]:
        """What the person has asked for since the last step; see ``TakesOver``."""
        acts = bool(acting.any())
        held = self._window.held(self._rate)
        asked = self._asked(self._window.tapped)
        # Who is in charge and is waited for may give back meanwhile.
        while (asked > 0 or (acts and asked == 0)) and self._waits(held):
            held = self._window.held(self._rate)
            asked = self._asked(self._window.tapped) or asked
        self._polled = held
        return torch.tensor([[asked]])

    def _asked(self, tapped: Sequence[str]) -> int:
        assert self._signals is not None, "it is told by what to take over before the first step"
        if self._signals.give_back in tapped:
            return -1
        by_action = self._signals.by_action and any(n in self._controls.effects for n in tapped)
        return int(by_action or self._signals.take_over in tapped)

    def _waits(self, held: Mapping[str, float]) -> bool:
        return self._answer(held) is None and not self._window.closing

    def _answer(self, held: Mapping[str, float]) -> NDArray[Any] | None:
        """The action for what is held of the keys that stand for one."""
        effects = self._controls.effects
        return self._controls.answer({n: far for n, far in held.items() if n in effects})

    def reset(self, mask: Bool[Tensor, "S E"]) -> None:
        """New episodes begin: the picture shows it."""
        self._polled = None

    def show(self, frames: Sequence[Any]) -> None:
        """Show the one environment; see ``WatchesFrames``.

        Raises:
            UserError: if there are several, or they are no pictures.
        """
        _require_one(len(frames))
        frame = np.asarray(frames[0])
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
            raise UserError(
                f"env.id={self._spec.id!r} has no picture to show: its render() returned "
                f"{type(frames[0]).__name__}, and guide=human needs an array [H, W, 3] of bytes; "
                "choose an environment with render_mode=rgb_array"
            )
        self._window.draw(frame)

    def act(
        self, obs: Observation, streams: Streams | None, mask: Bool[Tensor, "S E"]
    ) -> Shaped[Tensor, "S E *A"]:
        """What the person does now; see ``Guide.act``."""
        _require_one(mask.numel())
        held, self._polled = self._polled, None
        held = self._window.held(self._rate) if held is None else held
        while self._waits(held):
            held = self._window.held(self._rate)
        answer = self._answer(held)
        if answer is None:  # stopped while it waited
            answer = next(iter(self._controls.effects.values()))
        answers = (
            torch.from_numpy(np.array(answer))
            .float()
            .expand(*mask.shape, *self._spec.actions.chosen_shape)
        )
        return self._view.respond(answers, "human", mask.cpu()).to(obs.device)


def _require_one(environments: int) -> None:
    if environments != 1:
        raise UserError(
            f"guide=human acts in one environment at a time, and there are {environments}; use one "
            "seed, env.num_envs=1 and evaluation.num_envs=1, or, for data, jsrl dataset rollouts"
        )


@dataclass
class HumanOptions(GuideOptions):
    """Of ``guide=human``: a person, with a window."""

    # What a key stands for, by pygame's names: actions in [-1, 1], as {left: [-1, 0]}, or choices,
    # as {left: 0}; also button_N and axis_N of a gamepad. Empty: left and right, down and up, a and
    # d, s and w, f and h, g and t for the dimensions; the digits, left and right for choices.
    keys: dict[Any, Any] = field(default_factory=dict)
    # What is done while nothing is held; null: nothing, or, among choices, to wait for the person.
    idle: Any = None
    # Take the axes, or the buttons, of a gamepad for the defaults.
    gamepad: bool = False
    # At most so many steps a second.
    frames_per_second: float = 30.0
    # Whether the person plays evaluations too: evaluation.final_episodes alone, and the combined
    # policy's in every evaluation. Otherwise the exploration-policy alone is evaluated.
    measured: bool = False

    neutral = (("gamepad", False), ("measured", False))

    takes_over = True

    def asks_person(self) -> bool:
        return True

    def is_measured(self) -> bool:
        return self.measured

    def check(self) -> None:
        super().check()
        if not self.frames_per_second > 0:
            raise UserError(f"guide.frames_per_second={self.frames_per_second} must be above 0")
        if self.gamepad and self.keys:
            raise UserError(
                "guide.gamepad=true is for the default keys, and guide.keys names others; leave "
                "one of them out"
            )


@guides.register("human", HumanOptions)
def make_human(options: HumanOptions, inputs: GuideInputs) -> HumanGuide:
    """The person, before an open window."""
    options.check()
    keys = {str(name): value for name, value in options.keys.items()}
    controls = Controls(
        keys or default_keys(inputs.spec, options.gamepad), options.idle, inputs.spec
    )
    return HumanGuide(controls, inputs.spec, options.frames_per_second)
