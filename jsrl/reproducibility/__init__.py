"""How far runs differ that differ only in chance, and which activations make them differ less."""
