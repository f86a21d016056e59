"""The window through which a person guides: pictures, keyboard and gamepad, by ``pygame``."""

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Shaped
from numpy.typing import NDArray

from jsrl.core.errors import UserError

DEAD_ZONE = 0.1
"""Of a gamepad's axis: what is nearer to its middle counts as the middle."""

SMALLEST_WINDOW = 400
"""Pixels of the longer side, to which small pictures are enlarged by a whole factor."""

NO_WINDOW = ("offscreen", "dummy")
"""Drivers of SDL that show nothing; without a display it silently takes the first of them."""


class Window:
    """A window of ``pygame`` with its keyboard, and the first gamepad if one is asked for.

    It opens at the first picture.

    Args:
        names: of the keys, buttons and axes that count.
        title: of the window.

    Raises:
        UserError: see ``HumanGuide``.
    """

    def __init__(self, names: Sequence[str] | Mapping[str, Any], title: str) -> None:
        self._pygame = pygame = _pygame()
        self._title = title
        self._clock = pygame.time.Clock()
        self._held: dict[str, float] = {}
        self._pressed: dict[str, float] = {}
        self.closing = False
        """Whether the person has asked to stop."""
        _open_display(pygame)
        self._events: dict[tuple[str, int], str] = {}
        self._pad: Any = None
        self.add(names)
        self._surface: Any = None

    def add(self, names: Sequence[str] | Mapping[str, Any]) -> None:
        """Let further keys, buttons and axes count.

        Raises:
            UserError: if one is unknown, counts already, or needs a gamepad that is not there.
        """
        for name in names:
            event = self._event(name)
            if event in self._events:
                raise UserError(
                    f"guide.keys.{name} is the same as {self._events[event]}, which stands for "
                    "something else; choose another key or button"
                )
            self._events[event] = name
        pads = [name for name in names if name.startswith(("axis_", "button_"))]
        if pads and self._pad is None:
            self._pad = _first_gamepad(self._pygame, pads[0])

    @property
    def tapped(self) -> tuple[str, ...]:
        """What was pressed, or pushed, between the last two calls of ``held``, by name."""
        return tuple(self._pressed)

    def draw(self, frame: Shaped[NDArray[np.uint8], "H W 3"]) -> None:
        """Show a picture."""
        pygame = self._pygame
        height, width = frame.shape[:2]
        factor = max(1, SMALLEST_WINDOW // max(height, width))
        size = (factor * width, factor * height)
        if self._surface is None or self._surface.get_size() != size:
            self._surface = pygame.display.set_mode(size)
            pygame.display.set_caption(self._title)
        picture = pygame.surfarray.make_surface(frame.swapaxes(0, 1))
        self._surface.blit(pygame.transform.scale(picture, size), (0, 0))
        pygame.display.flip()

    def held(self, rate: float) -> dict[str, float]:
        """What is held down and how far, by name, in the order in which it was pressed.

        Args:
            rate: it waits until so many frames a second are not exceeded.

        Returns:
            What was tapped since the last call counts too, though it is up again.
        """
        self._clock.tick(rate)
        self._pressed = {}
        pygame = self._pygame
        for event in pygame.event.get():
            stops = event.type == pygame.KEYDOWN and event.key == pygame.K_ESCAPE
            if event.type == pygame.QUIT or stops:
                self._stop()
            elif event.type in (pygame.KEYDOWN, pygame.KEYUP):
                self._take("key", event.key, float(event.type == pygame.KEYDOWN))
            elif event.type in (pygame.JOYBUTTONDOWN, pygame.JOYBUTTONUP):
                self._take("button", event.button, float(event.type == pygame.JOYBUTTONDOWN))
            elif event.type == pygame.JOYAXISMOTION:
                self._take("axis", event.axis, event.value)
        return {**self._held, **{n: v for n, v in self._pressed.items() if n not in self._held}}

    def _take(self, kind: str, number: int, far: float) -> None:
        name = self._events.get((kind, number))
        if name is None:
            return
        self._held.pop(name, None)
        if abs(far) > DEAD_ZONE:
            self._held[name] = self._pressed[name] = far

    def _stop(self) -> None:
        """Ask for what Ctrl-C asks for: a run saves its state first."""
        self.closing = True
        signal.raise_signal(signal.SIGINT)

    def _event(self, name: str) -> tuple[str, int]:
        kind, _, number = name.partition("_")
        if kind in ("axis", "button") and number.isdigit():
            return kind, int(number)
        try:
            code: int = self._pygame.key.key_code(name.replace("_", " "))
        except ValueError as error:
            raise UserError(
                f"guide.keys.{name}: there is no key of this name; names are those of pygame, such "
                "as left, space, a or left_shift, or button_0 and axis_0 of a gamepad"
            ) from error
        return "key", code


def _pygame() -> Any:
    # It greets on import otherwise.
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        import pygame
    except ImportError as error:
        raise UserError(
            "guide=human needs pygame, which is not installed; pip install 'jsrl-torch[human]'"
        ) from error
    return pygame


def _open_display(pygame: Any) -> None:
    chosen = os.environ.get("SDL_VIDEODRIVER")
    # Asked for here, since SDL complains by itself while it looks for one.
    displays = any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
    if sys.platform.startswith("linux") and not chosen and not displays:
        raise _no_display("there is no display")
    try:
        pygame.display.init()
        driver = pygame.display.get_driver()
    except pygame.error as error:
        raise _no_display(f"SDL_VIDEODRIVER={chosen}: {error}" if chosen else str(error)) from error
    if driver in NO_WINDOW and not chosen:
        pygame.display.quit()
        raise _no_display("there is no display")


def _no_display(why: str) -> UserError:
    return UserError(
        f"guide=human cannot open a window ({why}); run it in a graphical session, or over ssh -X "
        "so that DISPLAY is set; SDL_VIDEODRIVER=dummy runs it without a window, for tests"
    )


def _first_gamepad(pygame: Any, name: str) -> Any:
    pygame.joystick.init()
    if not pygame.joystick.get_count():
        raise UserError(
            f"guide.keys.{name} needs a gamepad, and none is connected; connect one, or use keys"
        )
    return pygame.joystick.Joystick(0)
