"""The decoder's network: stretching as stock does, and grafting from mels to latents."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from TTS.tts.layers.xtts.hifigan_decoder import HifiDecoder

from train.decoder.generator import stretched_samples
from train.decoder.job import cut
from train.mels import HOP
from train.pretrain.recipe import DecoderPart
from train.pretrain.vocoder import (
    build_generator,
    code_scales,
    decoder_arguments,
    graft,
    speaker_vectors,
    stretch,
)
from train.spectral import SpectralDistance

PART = DecoderPart(initial_channels=32, kernels=[3], dilations=[[1, 2]])


@torch.no_grad()
def test_our_path_is_that_of_stock_hifi_decoder() -> None:
    torch.manual_seed(0)
    stock = HifiDecoder(
        ar_mel_length_compression=512, decoder_input_dim=24, **decoder_arguments(PART)
    ).eval()
    generator = build_generator(PART, 24)
    generator.load_state_dict(stock.waveform_decoder.state_dict())
    latents, vector = torch.randn(1, 17, 24), torch.randn(1, 512, 1)
    ours = generator(stretch(latents.transpose(1, 2), 2), vector)
    torch.testing.assert_close(ours, stock(latents, g=vector))
    assert ours.shape[-1] == stretched_samples(17, code_scales(2), HOP)


@torch.no_grad()
def test_a_grafted_generator_speaks_as_the_one_for_mels_did() -> None:
    torch.manual_seed(0)
    from_mels = build_generator(PART, 160)
    mel_out = nn.Linear(24, 160)
    grafted = graft(from_mels, mel_out, PART)
    latents, vector = torch.randn(1, 40, 24), torch.randn(1, 512, 1)
    on_mels = from_mels(stretch(mel_out(latents).transpose(1, 2), 2), vector)
    on_latents = grafted(stretch(latents.transpose(1, 2), 2), vector)
    # The first convolution pads with zeros, which the bias of the mel head is not: edges differ.
    edge = 256 * 12
    torch.testing.assert_close(
        on_mels[..., edge:-edge], on_latents[..., edge:-edge], rtol=1e-3, atol=1e-4
    )


def test_speaker_vectors_are_orthogonal_units_and_depend_on_the_seed() -> None:
    vectors = speaker_vectors(3, seed=5)
    torch.testing.assert_close(vectors @ vectors.T, torch.eye(3), rtol=0, atol=1e-6)
    assert torch.equal(vectors, speaker_vectors(3, seed=5))
    assert not torch.allclose(vectors, speaker_vectors(3, seed=6))


def test_spectral_distance_is_zero_for_the_same_and_grows_with_noise() -> None:
    torch.manual_seed(0)
    distance = SpectralDistance(24000)
    speech = torch.sin(torch.arange(9472) * 0.05)[None] * 0.3
    noise = torch.randn(1, 9472)
    found = [float(distance(speech + s * noise, speech)["spectral"]) for s in (0.0, 0.01, 0.1)]
    assert found[0] == 0.0
    assert found[0] < found[1] < found[2]


def test_spectral_distance_has_a_finite_gradient_at_silence() -> None:
    made = torch.zeros(1, 9472, requires_grad=True)
    SpectralDistance(24000)(made, torch.zeros(1, 9472))["spectral"].backward()
    assert bool(torch.isfinite(made.grad).all())


def test_cuts_beyond_the_edges_are_silence() -> None:
    audio = np.arange(1, 6, dtype=np.float32)
    np.testing.assert_array_equal(cut(audio, -2, 4), [0, 0, 1, 2])
    np.testing.assert_array_equal(cut(audio, 3, 4), [4, 5, 0, 0])
    np.testing.assert_array_equal(cut(audio, 1, 3), [2, 3, 4])
