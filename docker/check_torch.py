"""Ends with a sentence and code 1 unless torch is the build that was asked for.

    python check_torch.py cu118|cu128|cpu|pypi

A fallback to another index, or a wheel from elsewhere, would otherwise show on the user's GPU only.
"""

from __future__ import annotations

import sys

import torch
import torchaudio

#: The CUDA version of each build; of PyPI's, that of torch 2.7.
CUDA = {"cu118": "11.8", "cu128": "12.8", "cpu": None, "pypi": "12.6"}


def main(asked: str) -> None:
    """Compares what is installed with what was asked for."""
    expected, found = CUDA[asked], torch.version.cuda
    if found != expected:
        sys.exit(f"TORCH={asked} is built for CUDA {expected}; installed is CUDA {found}.")
    if torch.__version__.split("+")[0] != torchaudio.__version__.split("+")[0]:
        sys.exit(f"torch is {torch.__version__}, torchaudio is {torchaudio.__version__}.")


if __name__ == "__main__":
    main(sys.argv[1])
