"""Where the DVAE of a model lies and of which sizes it is. Opens no weights, needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.errors import ModelFileError
from app.models.bundles import Bundle
from app.models.config import read_json
from train.data.base_model import BaseModel

#: Where a bundle may keep it: ours in `training/`, or beside the weights as stock's downloads do.
_PLACES = ("training/dvae.safetensors", "dvae.safetensors", "dvae.pth")
STATS_FILE = "mel_stats.pth"
#: Sizes of the DVAE of XTTS-v2 (coqui-tts 0.28, `GPTTrainer.__init__`).
_STOCK_SIZES: Mapping[str, Any] = {
    "channels": 80,
    "positional_dims": 1,
    "codebook_dim": 512,
    "hidden_dim": 512,
    "num_resnet_blocks": 3,
    "kernel_size": 3,
    "num_layers": 2,
    "use_transposed_convs": False,
}


@dataclass(frozen=True)
class DvaeFiles:
    """Where a model's DVAE lies, and the sizes that its class is made with."""

    weights: Path
    sizes: Mapping[str, Any]


def find_dvae(bundle: Bundle, base: BaseModel) -> DvaeFiles:
    """Finds the DVAE that belongs to a bundle.

    Raises:
        ModelFileError: there is none; the message says which files would do.
    """
    for place in _PLACES:
        weights = bundle.folder / place
        if weights.is_file():
            sizes = {**_STOCK_SIZES, "num_tokens": base.num_codes}
            described = weights.with_suffix(".json")
            if described.is_file():
                sizes |= read_json(described)
            return DvaeFiles(weights, sizes)
    raise ModelFileError(
        f"{bundle.folder} has no DVAE, the network that turns speech into the codes that training "
        f"predicts: put XTTS-v2's dvae.pth and {STATS_FILE} (from where model.pth was fetched) "
        "beside the weights, or for a model of ours training/dvae.safetensors and "
        "training/dvae.json."
    )
