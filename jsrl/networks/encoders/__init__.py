"""Image encoders with a leading seed axis: one kind a file, and what joins them with a vector."""

# Importing a kind registers it.
from jsrl.networks.encoders import drq as drq
from jsrl.networks.encoders import impala as impala
from jsrl.networks.encoders import nature as nature
from jsrl.networks.encoders.encoder import encoders

__all__ = ["encoders"]
