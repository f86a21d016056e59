"""Studies of how well changes are noticed: faults, power, and other methods to compare with."""
