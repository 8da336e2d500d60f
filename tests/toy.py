"""A small XTTS with random weights, in the stock file format, made by stock coqui itself.

`toy_folder()` gives the bundle (made once a test session), `load_stock` stock's own model of it,
`load_toy` ours. The scales of the weights are chosen so that tokens vary, sampling stops by itself
now and then, and the sound is loud enough to be measured.
"""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from app.engine.types import Conditioning, SpeechModel

# The toy's matrices are so small that threads would only wait for each other.
torch.set_num_threads(1)

LANGUAGES = ("en", "es", "fr", "de", "it", "pt", "pl", "tr", "ru", "nl", "cs", "ar", "zh-cn", "hu")
CHARACTERS = "abcdefghijklmnopqrstuvwxyz.,!?'"
VOICES = ("ada", "ben", "cleo")

MODEL_ARGS: dict[str, Any] = {
    "gpt_layers": 3,
    "gpt_n_model_channels": 64,
    "gpt_n_heads": 4,
    "gpt_max_audio_tokens": 80,
    "gpt_max_text_tokens": 100,
    "gpt_num_audio_tokens": 1026,
    "gpt_start_audio_token": 1024,
    "gpt_stop_audio_token": 1025,
    "gpt_use_perceiver_resampler": True,
    "decoder_input_dim": 64,
}

#: `decoder.json`: what stock can only be told in code
DECODER_SIZES: dict[str, Any] = {
    "resblock_type_decoder": "1",
    "resblock_kernel_sizes_decoder": [3, 7],
    "resblock_dilation_sizes_decoder": [[1, 3, 5], [1, 3, 5]],
    "upsample_rates_decoder": [8, 8, 4],
    "upsample_kernel_sizes_decoder": [16, 16, 8],
    "upsample_initial_channel_decoder": 32,
}


@contextmanager
def num_threads(num: int) -> Iterator[None]:
    """Lets torch use `num` threads within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(num)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@functools.cache
def toy_folder() -> Path:
    """Returns the bundle's folder; it is made at the first call and removed at exit."""
    folder = Path(tempfile.mkdtemp(prefix="toy-xtts-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return build_bundle(folder)


@functools.cache
def toy_model() -> SpeechModel:
    """Returns our engine's model of `toy_folder()`, loaded once."""
    return load_toy(toy_folder())


def build_bundle(
    folder: Path,
    model_args: Mapping[str, Any] = MODEL_ARGS,
    decoder_sizes: Mapping[str, Any] | None = DECODER_SIZES,
    seed: int = 0,
) -> Path:
    """Writes a stock XTTS folder, `speakers_xtts.pth` included, and `decoder.json` given sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    vocab = _vocab()
    (folder / "vocab.json").write_text(json.dumps(vocab))
    ids = vocab["model"]["vocab"]
    args = {
        **model_args,
        "gpt_number_text_tokens": len(ids),
        "gpt_start_text_token": ids["[START]"],
        "gpt_stop_text_token": ids["[STOP]"],
    }
    config = stock_config(args)
    config.save_json(str(folder / "config.json"))
    if decoder_sizes is not None:
        (folder / "decoder.json").write_text(json.dumps(decoder_sizes))
    model = stock_model(config, decoder_sizes)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        randomise(model)
    torch.save({"model": model.state_dict()}, folder / "model.pth")
    dim = config.model_args.gpt_n_model_channels
    speakers = {name: _speaker(index, dim) for index, name in enumerate(VOICES)}
    torch.save(speakers, folder / "speakers_xtts.pth")
    return folder


def stock_config(model_args: Mapping[str, Any]) -> Any:
    """Returns stock's `XttsConfig` with these `model_args`."""
    from TTS.tts.configs.xtts_config import XttsArgs, XttsConfig

    return XttsConfig(model_args=XttsArgs(**model_args), languages=list(LANGUAGES))


def stock_model(config: Any, decoder_sizes: Mapping[str, Any] | None) -> Any:
    """Returns stock's `Xtts` of this shape, in evaluation mode, with whatever weights."""
    from TTS.tts.layers.xtts.hifigan_decoder import HifiDecoder
    from TTS.tts.models.xtts import Xtts

    model = Xtts(config)
    args = config.model_args
    if decoder_sizes is not None:
        model.hifigan_decoder = HifiDecoder(
            input_sample_rate=args.input_sample_rate,
            output_sample_rate=args.output_sample_rate,
            output_hop_length=args.output_hop_length,
            ar_mel_length_compression=args.gpt_code_stride_len,
            decoder_input_dim=args.decoder_input_dim,
            d_vector_dim=args.d_vector_dim,
            cond_d_vector_in_each_upsampling_layer=args.cond_d_vector_in_each_upsampling_layer,
            **decoder_sizes,
        )
    torch.nn.Module.eval(model)
    return model


def randomise(model: Any, stop_bias: float = 7.0) -> None:
    """Draws weights that make the tokens vary and the sound audible; low `stop_bias`: no stop."""
    gpt, vocoder = model.gpt, model.hifigan_decoder.waveform_decoder
    with torch.no_grad():
        for layer in gpt.gpt.h:
            for part in (layer.attn.c_attn, layer.attn.c_proj, layer.mlp.c_fc, layer.mlp.c_proj):
                part.weight.normal_(std=1.5 * part.weight.shape[0] ** -0.5)
                part.bias.normal_(std=0.1)
        for table in (gpt.text_embedding, gpt.mel_embedding):
            table.weight.normal_()
        for table in (gpt.text_pos_embedding, gpt.mel_pos_embedding):
            table.emb.weight.normal_(std=0.5)
        gpt.final_norm.weight.normal_(mean=1, std=0.1)
        gpt.mel_head.weight.normal_(std=3 * gpt.model_dim**-0.5)
        gpt.mel_head.bias.zero_()
        gpt.mel_head.bias[gpt.stop_audio_token] = stop_bias
        vocoder.conv_post.weight.mul_(20)


def load_stock(folder: Path) -> Any:
    """Returns stock's own model of a bundle, ready for `inference`."""
    from TTS.tts.configs.xtts_config import XttsConfig
    from TTS.tts.layers.xtts.tokenizer import VoiceBpeTokenizer

    config = XttsConfig()
    config.load_json(str(folder / "config.json"))
    model = stock_model(config, decoder_sizes(folder))
    model.tokenizer = VoiceBpeTokenizer(vocab_file=str(folder / "vocab.json"))
    model.load_state_dict(torch.load(folder / "model.pth", weights_only=True)["model"])
    model.gpt.init_gpt_for_inference()
    model.gpt.eval()
    return model


def load_toy(
    folder: Path, changes: Mapping[str, Mapping[int, float]] = MappingProxyType({})
) -> SpeechModel:
    """Returns our engine's model of a bundle; `changes` sets single values of named tensors."""
    config = json.loads((folder / "config.json").read_text())
    state = torch.load(folder / "model.pth", weights_only=True)["model"]
    for name, values in changes.items():
        for index, value in values.items():
            state[name][index] = value
    return SpeechModel.from_state_dict(
        state, config["model_args"], decoder_sizes=decoder_sizes(folder)
    )


def decoder_sizes(folder: Path) -> dict[str, Any] | None:
    """Returns a bundle's `decoder.json` without its note, where there is one."""
    path = folder / "decoder.json"
    sizes: dict[str, Any] | None = json.loads(path.read_text()) if path.is_file() else None
    if sizes is not None:
        sizes.pop("note", None)
    return sizes


def voice(index: int, dim: int = 64) -> Conditioning:
    """Returns a made-up voice; each index gives another."""
    speaker = _speaker(index, dim)
    return Conditioning(speaker["gpt_cond_latent"], speaker["speaker_embedding"])


def vocoder_state(sizes: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Returns random weights of stock's decoder of these sizes, by their names in `model.pth`."""
    return dict(_vocoder_state(json.dumps(dict(sizes))))


@functools.cache
def _vocoder_state(sizes_json: str) -> dict[str, torch.Tensor]:
    from TTS.tts.layers.xtts.hifigan_decoder import HifiDecoder

    with torch.random.fork_rng():
        torch.manual_seed(1)
        dim = MODEL_ARGS["decoder_input_dim"]
        decoder = HifiDecoder(decoder_input_dim=dim, **json.loads(sizes_json))
        with torch.no_grad():
            decoder.waveform_decoder.conv_post.weight.mul_(20)
    state = decoder.waveform_decoder.state_dict()
    return {f"hifigan_decoder.waveform_decoder.{name}": value for name, value in state.items()}


def fold_weight_norm(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns the state with plain weights in the place of weight norm's two parts."""
    folded = {}
    for name, value in state.items():
        if name.endswith(".original1"):
            size = state[name[:-1] + "0"]
            base = name.removesuffix(".parametrizations.weight.original1")
            folded[f"{base}.weight"] = torch._weight_norm(value, size, 0)
        elif not name.endswith(".original0"):
            folded[name] = value
    return folded


def _speaker(index: int, dim: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1000 + index)
    embedding = torch.randn(1, 512, 1, generator=generator)
    return {
        "gpt_cond_latent": torch.randn(1, 32, dim, generator=generator),
        "speaker_embedding": embedding / embedding.norm(),
    }


def _vocab() -> dict[str, Any]:
    """Returns a tokenizer of single characters, in the format of XTTS's vocab.json."""
    special = ["[STOP]", "[UNK]", "[SPACE]", "[START]", *(f"[{code}]" for code in LANGUAGES)]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [
        {"id": index, "content": token, "special": True, **flags}
        for index, token in enumerate(special)
    ]
    vocab = {token: index for index, token in enumerate([*special, *CHARACTERS])}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "[UNK]",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "vocab": vocab,
            "merges": [],
        },
    }
