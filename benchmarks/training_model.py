"""An XTTS of any size with random weights, in coqui's own files, ready to be trained by both.

    python -m benchmarks.training_model FOLDER LAYERS WIDTH

A process of its own, so that its memory is given back.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import torch

from app.models.config import read_json
from benchmarks.full_shape import XTTS_V2_ARGS

_HEAD_DIM = 64
_VOCAB = Path(__file__).parent.parent / "tests" / "data" / "xtts-vocab.json"


def write_model(folder: Path, layers: int, width: int) -> None:
    """Writes config.json, vocab.json, model.pth, dvae.pth and mel_stats.pth.

    All but the GPT's layers and width and the vocabulary (v1.1's) is of XTTS-v2's size.

    Args:
        folder: is made.
        layers: of the GPT; XTTS-v2 has 30.
        width: of the GPT; XTTS-v2 has 1024.
    """
    from TTS.tts.configs.xtts_config import XttsArgs, XttsConfig
    from TTS.tts.layers.xtts.dvae import DiscreteVAE
    from TTS.tts.models.xtts import Xtts

    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(_VOCAB, folder / "vocab.json")
    args = {
        **XTTS_V2_ARGS,
        # stock's trainer takes no other number
        "gpt_number_text_tokens": max(read_json(_VOCAB)["model"]["vocab"].values()) + 1,
        "gpt_layers": layers,
        "gpt_n_model_channels": width,
        "gpt_n_heads": width // _HEAD_DIM,
        "decoder_input_dim": width,
    }
    torch.manual_seed(0)
    config = XttsConfig(model_args=XttsArgs(**args), languages=["en"])
    model = Xtts(config)
    with torch.no_grad():
        model.mel_stats.copy_(torch.linspace(1, 3, 80))
        # tokens that vary, and a sound loud enough to be compared
        model.gpt.mel_embedding.weight.normal_(std=0.1)
        model.hifigan_decoder.waveform_decoder.conv_post.weight.mul_(20)
    config.save_json(str(folder / "config.json"))
    torch.save({"model": model.state_dict()}, folder / "model.pth")
    torch.save(model.mel_stats.clone(), folder / "mel_stats.pth")
    dvae = DiscreteVAE(
        channels=80,
        positional_dims=1,
        num_tokens=1024,
        codebook_dim=512,
        hidden_dim=512,
        num_resnet_blocks=3,
        kernel_size=3,
        num_layers=2,
        use_transposed_convs=False,
    )
    torch.save(dvae.state_dict(), folder / "dvae.pth")


if __name__ == "__main__":
    write_model(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
