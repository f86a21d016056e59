"""Which episodes and columns a difference is due to."""
