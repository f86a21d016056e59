"""DeepLIFT, which is not offered: whoever asks for it is told why."""

from dataclasses import dataclass
from typing import NoReturn

from jsrl.core.errors import UserError
from jsrl.monitor.attribution.methods.base import MethodOptions, methods

REASON = (
    "method=deeplift is not offered: implementations know its rules for some activations by name "
    "(Shrikumar, Greenside and Kundaje 2017), and at others, smooth ones such as SmeLU among them, "
    "and in scripted modules fall back to plain gradients without a word, so that contributions do "
    "not add up to the output; use method=fullgrad or method=integrated_gradients"
)


@dataclass
class DeepLiftOptions(MethodOptions):
    """Of ``method=deeplift``."""

    def check(self) -> None:
        raise UserError(REASON)


@methods.register("deeplift", DeepLiftOptions)
def refuse(options: MethodOptions) -> NoReturn:
    """Say why there is no such method.

    Raises:
        UserError: always.
    """
    raise UserError(REASON)
