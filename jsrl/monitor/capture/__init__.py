"""Captures what a policy sees and does and its activations, records them, and reads them again."""
