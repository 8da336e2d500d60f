"""The speaker encoder of a bundle: a body from a seed, fitted to the recipe's speakers.

A handful of training speakers can't teach an encoder to clone, and the decoder knows only their
vectors. So the body is random (batch norm calibrated on speech) and only the last layer is fitted,
by ridge regression, to give each clip of a speaker the vector that the decoder was trained with.
An uploaded voice then lands between the known ones.
"""

from __future__ import annotations

import torch
from torch import Tensor
from TTS.encoder.models.resnet import ResNetSpeakerEncoder

from train.mels import resample
from train.pretrain.corpus import AUDIO_RATE, Clip, Corpus

_RATE = 16000
_STRETCH_S = 3
_CLIPS_PER_SPEAKER = 60
_RIDGE = 1e-2
_BATCH = 10

#: As `HifiDecoder` builds it (coqui-tts 0.28).
_AUDIO_CONFIG = {
    "fft_size": 512,
    "win_length": 400,
    "hop_length": 160,
    "sample_rate": _RATE,
    "preemphasis": 0.97,
    "num_mels": 64,
}


def fit_encoder(
    corpus: Corpus, vectors: Tensor, seed: int
) -> tuple[ResNetSpeakerEncoder, dict[str, float]]:
    """Returns the encoder in eval mode, and how far each speaker's held-out clips are found.

    Args:
        corpus: recordings of all speakers.
        vectors: what the encoder is to say, [speakers, 512], in the corpus's order of speakers.
        seed: of the random body.
    """
    torch.manual_seed(seed)
    encoder = ResNetSpeakerEncoder(
        input_dim=64, proj_dim=512, log_input=True, use_torch_spec=True, audio_config=_AUDIO_CONFIG
    )
    names = corpus.speakers
    clips = [c for n in names for c in _spread(corpus.select(held_out=False, speaker=n))]
    owners = torch.tensor([names.index(clip.speaker) for clip in clips])
    audio = torch.stack([_stretch(corpus, clip) for clip in clips])
    order = torch.randperm(len(clips))
    encoder.train()
    with torch.no_grad():
        for part in torch.split(order, _BATCH):
            encoder(audio[part])
        encoder.eval()
        features = _features(encoder, audio)
        _fit_last_layer(encoder, features, vectors[owners])
        shares = {
            name: _share_found(encoder, corpus, name, vectors)
            for name in names
            if corpus.select(held_out=True, speaker=name)
        }
    return encoder, shares


def _spread(clips: list[Clip]) -> list[Clip]:
    return clips[:: max(1, len(clips) // _CLIPS_PER_SPEAKER)][:_CLIPS_PER_SPEAKER]


def _stretch(corpus: Corpus, clip: Clip) -> Tensor:
    """Returns three seconds of a clip at 16 kHz, repeated where it is shorter."""
    samples = resample(torch.from_numpy(corpus.audio(clip)), AUDIO_RATE, _RATE)
    size = _STRETCH_S * _RATE
    return samples.repeat(size // len(samples) + 1)[:size]


def _features(encoder: ResNetSpeakerEncoder, audio: Tensor) -> Tensor:
    """Returns what the last layer is given, [clips, features]."""
    caught: list[Tensor] = []
    handle = encoder.fc.register_forward_pre_hook(lambda _m, args: caught.append(args[0]))
    for part in torch.split(audio, _BATCH):
        encoder(part)
    handle.remove()
    return torch.cat(caught)


def _fit_last_layer(encoder: ResNetSpeakerEncoder, features: Tensor, wanted: Tensor) -> None:
    mean = features.mean(0)
    centred = (features - mean).double()
    gram = centred @ centred.T
    gram += _RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    weight = (centred.T @ torch.linalg.solve(gram, (wanted - wanted.mean(0)).double())).T.float()
    encoder.fc.weight.copy_(weight)
    encoder.fc.bias.copy_(wanted.mean(0) - weight @ mean)


def _share_found(
    encoder: ResNetSpeakerEncoder, corpus: Corpus, name: str, vectors: Tensor
) -> float:
    """Returns the share of held-out clips whose vector is nearest their own speaker's."""
    clips = _spread(corpus.select(held_out=True, speaker=name))
    made = encoder(torch.stack([_stretch(corpus, clip) for clip in clips]), l2_norm=True)
    nearest = (made @ vectors.T).argmax(1)
    return float((nearest == corpus.speakers.index(name)).float().mean())
