"""Every Python process that has this folder on its path runs PyTorch without oneDNN's kernels.

PyTorch has a switch for them, but no environment variable, which processes begun by tests would
need too.
"""

import torch

torch.backends.mkldnn.set_flags(False)
