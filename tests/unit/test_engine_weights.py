"""Weights that are missing, misshapen, half precision or out of sorts with their config."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
import toy

from app.engine.formats import uniform_formats
from app.engine.scheduler import Scheduler
from app.engine.types import AudioChunk, DecodeOptions, SegmentJob, SpeechModel
from app.errors import ModelFileError


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    loaded: dict[str, torch.Tensor] = torch.load(toy.toy_folder() / "model.pth", weights_only=True)[
        "model"
    ]
    return loaded


@pytest.fixture(scope="module")
def args() -> dict[str, Any]:
    config: dict[str, Any] = json.loads((toy.toy_folder() / "config.json").read_text())
    return dict(config["model_args"])


def load(state: dict[str, torch.Tensor], args: dict[str, Any], **more: Any) -> SpeechModel:
    return SpeechModel.from_state_dict(state, args, decoder_sizes=toy.DECODER_SIZES, **more)


@pytest.mark.parametrize(
    "name",
    [
        "gpt.text_embedding.weight",
        "gpt.mel_pos_embedding.emb.weight",
        "gpt.gpt.h.1.attn.c_attn.weight",
        "gpt.gpt.h.2.mlp.c_proj.bias",
        "gpt.final_norm.weight",
        "gpt.mel_head.bias",
        "hifigan_decoder.waveform_decoder.conv_pre.weight",
        "hifigan_decoder.waveform_decoder.resblocks.3.convs1.2.bias",
        "hifigan_decoder.waveform_decoder.ups.1.parametrizations.weight.original1",
        "hifigan_decoder.waveform_decoder.conds.2.weight",
    ],
)
def test_a_tensor_missing_or_of_another_shape_is_named(
    state: dict[str, torch.Tensor], args: dict[str, Any], name: str
) -> None:
    missing = {key: value for key, value in state.items() if key != name}
    with pytest.raises(ModelFileError, match=name.replace(".", r"\.") + " is missing"):
        load(missing, args)
    if name == "gpt.text_embedding.weight":
        return  # its length is the number of text tokens; any is right
    wrong = torch.cat([state[name], state[name]])
    with pytest.raises(ModelFileError) as caught:
        load({**state, name: wrong}, args)
    message = caught.value.message
    assert name in message
    assert str(list(wrong.shape)) in message
    assert str(list(state[name].shape)) in message


def test_half_precision_is_cast_up(state: dict[str, torch.Tensor], args: dict[str, Any]) -> None:
    halved = {key: value.half() for key, value in state.items()}
    model = load(halved, args)
    assert model.gpt.dtype == model.vocoder.dtype == torch.float32
    expected = toy.toy_model().gpt.audio_embedding
    assert torch.allclose(model.gpt.audio_embedding, expected, atol=1e-2)


def test_another_type_may_be_asked_for(
    state: dict[str, torch.Tensor], args: dict[str, Any]
) -> None:
    model = load(state, args, formats=uniform_formats(torch.bfloat16))
    assert model.gpt.dtype == model.vocoder.dtype == torch.bfloat16
    scheduler = Scheduler(model)
    scheduler.submit(
        SegmentJob("a", (5, 6, 7), toy.voice(0), DecodeOptions(max_tokens=20), speed=1.37)
    )
    chunks = []
    while not scheduler.is_idle:
        chunks += [e.samples for e in scheduler.step() if isinstance(e, AudioChunk)]
    samples = np.concatenate(chunks)
    assert samples.dtype == np.float32
    assert np.isfinite(samples).all()
    assert np.abs(samples).max() > 0.01


def test_sizes_are_stocks(state: dict[str, torch.Tensor], args: dict[str, Any]) -> None:
    model = load(state, args)
    assert model.sample_rate == 24000
    assert model.latent_dim == 64
    assert model.max_audio_tokens == args["gpt_max_audio_tokens"] - 3
    assert model.max_text_tokens == args["gpt_max_text_tokens"] - 1


def test_text_tokens_of_the_vocabulary_win(
    state: dict[str, torch.Tensor], args: dict[str, Any]
) -> None:
    unset = {**args, "gpt_start_text_token": None, "gpt_stop_text_token": None}
    with pytest.raises(ModelFileError, match="gpt_start_text_token"):
        load(state, unset)
    sizes = load(state, unset, start_text_token=3, stop_text_token=0).gpt.sizes
    assert (sizes.start_text_token, sizes.stop_text_token) == (3, 0)
    assert load(state, args, start_text_token=5).gpt.sizes.start_text_token == 5


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("gpt_layers", "three"),
        ("gpt_layers", 0),
        ("gpt_n_heads", 5),
        ("gpt_n_heads", True),
        ("gpt_max_audio_tokens", 3),
        ("gpt_start_audio_token", 2000),
        ("gpt_stop_text_token", -1),
    ],
)
def test_a_config_that_makes_no_sense_is_named(
    state: dict[str, torch.Tensor], args: dict[str, Any], key: str, value: object
) -> None:
    with pytest.raises(ModelFileError, match=key):
        load(state, {**args, key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("resblock_type_decoder", "3"),
        ("resblock_kernel_sizes_decoder", [3, 4]),
        ("resblock_kernel_sizes_decoder", "3,7"),
        ("resblock_dilation_sizes_decoder", [[1, 3, 5]]),
        ("resblock_dilation_sizes_decoder", [[1, 3], [1, 3]]),
        ("resblock_dilation_sizes_decoder", [1, 3]),
        ("upsample_rates_decoder", [8, 8, 8]),
        ("upsample_kernel_sizes_decoder", [16, 16]),
        ("upsample_kernel_sizes_decoder", [4, 16, 8]),
        ("upsample_initial_channel_decoder", 4),
        ("upsample_initial_channel_decoder", 32.5),
    ],
)
def test_decoder_sizes_that_make_no_sense_are_named(
    state: dict[str, torch.Tensor], args: dict[str, Any], key: str, value: object
) -> None:
    with pytest.raises(ModelFileError, match=key):
        SpeechModel.from_state_dict(state, args, decoder_sizes={**toy.DECODER_SIZES, key: value})
