"""A model of XTTS-v2's full shape with random weights, in stock coqui's own files.

The work is the real model's; what it says is noise. So that requests end as real ones do, the
weights are made to stop after a given number of tokens: from that position on, the position's
embedding outweighs everything, and the head reads the stop token off it.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

# config.json of XTTS-v2 as coqui published it; what is absent is stock's default
XTTS_V2_ARGS = {
    "gpt_layers": 30,
    "gpt_n_model_channels": 1024,
    "gpt_n_heads": 16,
    "gpt_number_text_tokens": 6681,
    "gpt_start_text_token": 261,
    "gpt_stop_text_token": 0,
    "gpt_num_audio_tokens": 1026,
    "gpt_start_audio_token": 1024,
    "gpt_stop_audio_token": 1025,
    "gpt_use_perceiver_resampler": True,
}
VOICE = "nobody"
_VOCAB = Path(__file__).parent.parent / "tests" / "data" / "xtts-vocab.json"


def make_stock(stop_after: int | None = None) -> Any:
    """Returns stock's model, random, in evaluation mode; without `stop_after` it never stops."""
    from TTS.tts.configs.xtts_config import XttsArgs, XttsConfig
    from TTS.tts.models.xtts import Xtts

    torch.manual_seed(0)
    model = Xtts(XttsConfig(model_args=XttsArgs(**XTTS_V2_ARGS)))
    with torch.no_grad():
        model.gpt.mel_embedding.weight.normal_(std=0.1)
    make_speakable(model, stop_after)
    torch.nn.Module.eval(model)
    return model


@torch.no_grad()
def make_speakable(model: Any, stop_after: int | None = None, gain: float = 20) -> None:
    """Makes a random stock model end after so many tokens, or never, and its sound pass checks."""
    gpt = model.gpt
    # the stop's own logit comes to about `model_dim` where it is wanted
    gpt.mel_head.bias[gpt.stop_audio_token] = -min(100, gpt.model_dim // 2)
    sound = model.hifigan_decoder.waveform_decoder.conv_post.weight
    # loud enough to be measured, and without a constant part, which no check would let pass
    sound.sub_(sound.mean(dim=-1, keepdim=True)).mul_(gain)
    if stop_after is not None:
        sign = torch.randn(gpt.model_dim).sign()
        gpt.mel_pos_embedding.emb.weight[stop_after - 1 :] += 100 * sign
        gpt.mel_head.weight[gpt.stop_audio_token] = sign


def write_bundle(folder: Path, stop_after: int) -> Path:
    """Writes a stock folder (1.9 GB) whose every segment has `stop_after` tokens.

    A folder that is there already is taken as it is.
    """
    done = folder / f"stops-after-{stop_after}"
    if done.is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    model = make_stock(stop_after)
    model.config.save_json(str(folder / "config.json"))
    shutil.copyfile(_VOCAB, folder / "vocab.json")
    torch.save({"model": model.state_dict()}, folder / "model.pth")
    torch.save({VOICE: make_voice_tensors()}, folder / "speakers_xtts.pth")
    done.touch()
    return folder


def make_voice_tensors(dim: int = 1024) -> dict[str, torch.Tensor]:
    """Returns a made-up voice under stock's names."""
    generator = torch.Generator().manual_seed(1)
    embedding = torch.randn(1, 512, 1, generator=generator)
    latents = torch.randn(1, 32, dim, generator=generator)
    return {"gpt_cond_latent": latents, "speaker_embedding": embedding / embedding.norm()}


def load_stock(folder: Path) -> Any:
    """Returns stock's model of the folder, with stock's own tokenizer, ready for `inference`."""
    from TTS.tts.configs.xtts_config import XttsConfig
    from TTS.tts.layers.xtts.tokenizer import VoiceBpeTokenizer
    from TTS.tts.models.xtts import Xtts

    config = XttsConfig()
    config.load_json(str(folder / "config.json"))
    # not `load_checkpoint`, which takes the number of text tokens from the vocabulary
    model = Xtts(config)
    model.tokenizer = VoiceBpeTokenizer(vocab_file=str(folder / "vocab.json"))
    state = torch.load(folder / "model.pth", weights_only=True, mmap=True)["model"]
    model.load_state_dict(state)
    model.gpt.init_gpt_for_inference()
    torch.nn.Module.eval(model)
    return model
