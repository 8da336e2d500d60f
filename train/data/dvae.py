"""The network that turns a mel into codes, as it is read and run.

Only its encoder and codebook are used; they are stock's `DiscreteVAE`, frozen, in float32.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from TTS.tts.layers.xtts.dvae import DiscreteVAE

from app.errors import ModelFileError
from app.models.bundles import Bundle
from app.models.weights import check_shapes_or_raise, read_pickle, read_state, to_float32
from train.data.base_model import BaseModel
from train.data.dvae_files import STATS_FILE, DvaeFiles, find_dvae
from train.mels import HOP, NUM_MELS

_USED_PARTS = ("encoder.", "codebook.embed")


class CodeMaker:
    """Turns log-mels into codes.

    Args:
        dvae: with its weights; moved to `device`.
        mel_stats: [80], what mels are divided by.
        stride: samples at 22.05 kHz that a code stands for.
        device: where it runs.
    """

    def __init__(
        self, dvae: DiscreteVAE, mel_stats: Tensor, stride: int, device: torch.device
    ) -> None:
        self._dvae = dvae.eval().requires_grad_(False).to(device)
        self._stats = mel_stats.float().to(device)
        self._stride = stride

    @classmethod
    def load(cls, bundle: Bundle, base: BaseModel, device: torch.device) -> CodeMaker:
        """Loads the DVAE of a bundle.

        Raises:
            ModelFileError: it is missing, damaged, or does not fit the model.
        """
        files = find_dvae(bundle, base)
        dvae = _build(files, base)
        own = {n: v for n, v in dvae.state_dict().items() if n.startswith(_USED_PARTS)}
        stored = _read_weights(files.weights)
        used = {name: value for name, value in stored.items() if name.startswith(_USED_PARTS)}
        shapes = {name: tuple(value.shape) for name, value in own.items()}
        check_shapes_or_raise(used, shapes, files.weights)
        dvae.load_state_dict(used, strict=False)
        return cls(dvae, _read_stats(bundle, files.weights), base.stride, device)

    @property
    def identity(self) -> str:
        """Hex SHA-256 of all that decides which codes a mel turns into."""
        digest = hashlib.sha256(str(self._stride).encode())
        state = self._dvae.state_dict()
        tensors = [state[name] for name in sorted(state) if name.startswith(_USED_PARTS)]
        for tensor in (*tensors, self._stats):
            digest.update(tensor.cpu().numpy().tobytes())
        return digest.hexdigest()

    @torch.no_grad()
    def __call__(self, mel: Tensor, num_samples: int) -> npt.NDArray[np.int16]:
        """Returns the codes of a clip.

        Args:
            mel: log-mel [80, frames] of the whole clip, on any device.
            num_samples: of the clip at 22.05 kHz.

        Returns:
            [ceil(num_samples / stride)], as many as stock counts for the clip.
        """
        scaled = mel.to(self._stats.device) / self._stats[:, None]
        # TF32 would move frames that lie between two codes from one to the other.
        with torch.backends.cudnn.flags(allow_tf32=False):
            codes = self._dvae.get_codebook_indices(scaled[None])[0]
        kept: npt.NDArray[np.int16] = codes[: -(-num_samples // self._stride)].short().cpu().numpy()
        return kept


def _build(files: DvaeFiles, base: BaseModel) -> DiscreteVAE:
    try:
        dvae = DiscreteVAE(**files.sizes)
    except (TypeError, AssertionError) as error:
        raise ModelFileError(
            f"{files.weights.with_suffix('.json')} does not fit coqui's DiscreteVAE: {error}; "
            "take the file that came with the weights."
        ) from error
    stride = HOP * 2 ** int(files.sizes["num_layers"])
    if stride != base.stride or files.sizes["num_tokens"] != base.num_codes:
        raise ModelFileError(
            f"{files.weights} makes {files.sizes['num_tokens']} codes of {stride} samples, and "
            f"{base.name} has {base.num_codes} of {base.stride}: take the DVAE that the model was "
            "trained with."
        )
    return dvae


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        content: dict[str, Any] = (
            load_file(path) if path.suffix == ".safetensors" else read_pickle(path)
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelFileError(f"{path} can't be read ({error}); fetch it again.") from error
    tensors: dict[str, Any] = content.get("model", content)
    return to_float32({name: v for name, v in tensors.items() if isinstance(v, Tensor)})


def _read_stats(bundle: Bundle, dvae_path: Path) -> Tensor:
    """Returns what mels are divided by: from beside the DVAE, or from the model's weights."""
    beside = dvae_path.parent / STATS_FILE
    if beside.is_file():
        try:
            stats = torch.load(beside, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, OSError, ValueError) as error:
            raise ModelFileError(f"{beside} can't be read ({error}); fetch it again.") from error
    else:
        stats = read_state(bundle.weights).get("mel_stats")
    if not isinstance(stats, Tensor) or tuple(stats.shape) != (NUM_MELS,):
        raise ModelFileError(
            f"{beside} is missing or no tensor of {NUM_MELS} numbers, and {bundle.weights} has no "
            f"mel_stats: put {STATS_FILE} beside {dvae_path.name}."
        )
    return stats.float()
