"""Streamed audio against the whole: any pieces, any speed, every shape of vocoder."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
import toy
from vocoder_shapes import SHAPES, make_latents, make_weights

from app.engine.interpolate import InterpolateStream
from app.engine.reference import vocode_whole
from app.engine.vocoder import Vocoder, num_latents_for
from app.engine.vocoder_weights import ConvWeights, VocoderWeights


def stream(
    weights: VocoderWeights, latents: torch.Tensor, pieces: Sequence[int], speed: float = 1.0
) -> torch.Tensor:
    """Vocodes pieces of these lengths in turn, over and over, until the latents are used up."""
    vocoder = Vocoder(weights).stream(toy.voice(0).speaker_embedding, speed)
    samples, place, turn = [], 0, 0
    while place < len(latents):
        size = pieces[turn % len(pieces)]
        samples.append(vocoder.push(latents[place : place + size]))
        place, turn = place + size, turn + 1
    return torch.cat([*samples, vocoder.finish()])


@pytest.mark.parametrize("speed", [0.5, 1, 1.37, 2])
@pytest.mark.parametrize("pieces", [[1], [2, 0, 5], [8, 16, 32, 40], [1000]])
def test_streamed_is_whole(speed: float, pieces: list[int]) -> None:
    weights = make_weights("toy")
    latents = make_latents(61)
    whole = vocode_whole(weights, latents, toy.voice(0).speaker_embedding, speed)
    streamed = stream(weights, latents, pieces, speed)
    assert whole.abs().max() > 0.1
    assert streamed.shape == whole.shape
    assert (streamed - whole).abs().max() < 1e-5


@pytest.mark.parametrize("shape", list(SHAPES))
def test_every_shape_streams(shape: str) -> None:
    weights = make_weights(shape)
    latents = make_latents(17)
    whole = vocode_whole(weights, latents, toy.voice(0).speaker_embedding)
    for pieces in ([1], [3, 7], [20]):
        streamed = stream(weights, latents, pieces)
        assert streamed.shape == whole.shape
        assert (streamed - whole).abs().max() < 1e-5


@pytest.mark.parametrize("num", [1, 2, 3, 4])
def test_few_latents_give_stocks_length(num: int) -> None:
    streamed = stream(make_weights("toy"), make_latents(num), [1])
    assert len(streamed) == 256 * int(4 * num * (24000 / 22050))
    assert streamed.isfinite().all()


@pytest.mark.parametrize("speed", [1, 2, 10])
def test_nothing_in_gives_nothing_out(speed: float) -> None:
    weights = make_weights("toy")
    assert len(Vocoder(weights).stream(toy.voice(0).speaker_embedding, speed).finish()) == 0
    if speed == 10:
        assert len(stream(weights, make_latents(3), [1], speed)) == 0


def test_first_samples_come_early() -> None:
    """Eight tokens are 0.37 s; what waits for its right neighbours is less than half of that."""
    vocoder = Vocoder(make_weights("toy")).stream(toy.voice(0).speaker_embedding)
    assert len(vocoder.push(make_latents(8))) > 0.5 * 8 * 1024 * 24000 / 22050


@pytest.mark.parametrize("shape", list(SHAPES))
@pytest.mark.parametrize("speed", [0.5, 1.0, 2.0])
def test_so_many_latents_give_so_much_sound(shape: str, speed: float) -> None:
    """The bound on what the layers see is a few frames wide."""
    weights = make_weights(shape)
    latents = make_latents(num_latents_for(weights, 0.1, speed))
    stream = Vocoder(weights).stream(toy.voice(0).speaker_embedding, speed)
    too_many = len(stream.push(latents)) / 256 - 0.1 * 24000 / 256
    assert 0 <= too_many < 8 + 4.4 / speed


def test_two_streams_share_weights_and_nothing_else() -> None:
    weights = make_weights("toy")
    latents = make_latents(20)
    alone = stream(weights, latents, [5])
    first = Vocoder(weights).stream(toy.voice(0).speaker_embedding)
    second = Vocoder(weights).stream(toy.voice(1).speaker_embedding)
    mine, others = [], []
    for start in range(0, 20, 5):
        mine.append(first.push(latents[start : start + 5]))
        others.append(second.push(latents[start : start + 5]))
    assert torch.equal(torch.cat([*mine, first.finish()]), alone)
    assert not torch.equal(torch.cat([*others, second.finish()]), alone)


def test_work_is_linear_in_length() -> None:
    """Later pieces cost what the first ones do; vocoding all again would cost 20 times as much."""
    vocoder = Vocoder(make_weights("toy")).stream(toy.voice(0).speaker_embedding)
    times = []
    for _ in range(40):
        began = time.perf_counter()
        vocoder.push(make_latents(10))
        times.append(time.perf_counter() - began)
    assert min(times[30:]) < 3 * min(times[2:12])


@pytest.mark.parametrize("scale", [4, 24000 / 22050, 1 / 1.37, 0.5, 2.0, 1 / 0.73])
@pytest.mark.parametrize("num", [40, 147, 2413])
def test_interpolation_is_torchs(scale: float, num: int) -> None:
    frames = torch.randn(1, 3, num, generator=torch.Generator().manual_seed(num))
    whole = F.interpolate(frames, scale_factor=[scale], mode="linear")
    for size in (1, 7, num):
        interpolate = InterpolateStream(scale)
        parts = [
            interpolate.push(frames[:, :, start : start + size], is_last=start + size >= num)
            for start in range(0, num, size)
        ]
        streamed = torch.cat(parts, dim=2)
        assert streamed.shape == whole.shape
        assert (streamed - whole).abs().max() < 2e-6


def test_weight_norm_may_come_in_any_spelling() -> None:
    sizes = toy.DECODER_SIZES
    state = toy.vocoder_state(sizes)
    plain = VocoderWeights.from_state_dict(state, toy.MODEL_ARGS, sizes)
    older = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): tensor
        for name, tensor in state.items()
    }
    assert older.keys() != state.keys()
    from_older = VocoderWeights.from_state_dict(older, toy.MODEL_ARGS, sizes)
    folded = toy.fold_weight_norm(state)
    assert not any("original" in name for name in folded)
    from_folded = VocoderWeights.from_state_dict(folded, toy.MODEL_ARGS, sizes)
    for other in (from_older, from_folded):
        for one, two in zip(all_convs(plain), all_convs(other), strict=True):
            assert torch.allclose(one.weight, two.weight, rtol=1e-6, atol=1e-7)


def all_convs(weights: VocoderWeights) -> list[ConvWeights]:
    convs = [weights.first, weights.last]
    for layer in weights.layers:
        convs.append(layer.up)
        convs += [conv for block in layer.blocks for stage in block.stages for conv in stage]
    return convs
