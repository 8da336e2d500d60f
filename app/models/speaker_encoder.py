"""The ResNet that turns a 64-band log-mel into a speaker embedding.

H/ASP (arXiv 2009.14153) as XTTS uses it; parameter names are those of coqui-tts 0.28
(TTS/encoder/models/resnet.py), so weights load unchanged. Knows no audio.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_FILTERS = (32, 64, 128, 256)
_BLOCKS = (3, 4, 6, 3)
_STRIDES = (1, 2, 2, 2)
_SQUEEZE = 8
_ATTENTION_WIDTH = 128
_EMBEDDING_DIM = 512  # HifiDecoder's proj_dim
_VARIANCE_FLOOR = 1e-5


class SpeakerEncoder(nn.Module):
    """Log-mel [B, num_mels, frames] -> unit vectors [B, 512]."""

    def __init__(self, num_mels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, _FILTERS[0], 3, padding=1)
        self.bn1 = nn.BatchNorm2d(_FILTERS[0])
        width_in = _FILTERS[0]
        stages = []
        for width, blocks, stride in zip(_FILTERS, _BLOCKS, _STRIDES, strict=True):
            stages.append(_stage(width_in, width, blocks, stride))
            width_in = width
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        # three strides of two fold the bands by eight
        channels = _FILTERS[-1] * (num_mels // 8)
        self.attention = nn.Sequential(
            nn.Conv1d(channels, _ATTENTION_WIDTH, 1),
            nn.ReLU(),
            nn.BatchNorm1d(_ATTENTION_WIDTH),
            nn.Conv1d(_ATTENTION_WIDTH, channels, 1),
            nn.Softmax(dim=2),
        )
        self.fc = nn.Linear(2 * channels, _EMBEDDING_DIM)

    def forward(self, log_mel: Tensor) -> Tensor:
        """Returns [B, 512], each of length one."""
        hidden = F.instance_norm(log_mel).unsqueeze(1)
        hidden = self.bn1(F.relu(self.conv1(hidden)))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            hidden = stage(hidden)
        hidden = hidden.flatten(1, 2)
        weight: Tensor = self.attention(hidden)
        mean = (hidden * weight).sum(dim=2)
        variance = (hidden.square() * weight).sum(dim=2) - mean.square()
        pooled = torch.cat((mean, variance.clamp(min=_VARIANCE_FLOOR).sqrt()), dim=1)
        return F.normalize(self.fc(pooled), dim=1)


class ResidualBlock(nn.Module):
    """Two convolutions, a squeeze-excitation gate, and the residual."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.se = ChannelGate(width)
        self.downsample: nn.Module | None = None
        if stride != 1 or width_in != width:
            self.downsample = nn.Sequential(
                nn.Conv2d(width_in, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, hidden: Tensor) -> Tensor:
        """Returns [B, width, bands / stride, frames / stride]."""
        out = self.bn1(F.relu(self.conv1(hidden)))  # the norm follows the ReLU, as in stock
        out = self.se(self.bn2(self.conv2(out)))
        residual = hidden if self.downsample is None else self.downsample(hidden)
        return F.relu(out + residual)


class ChannelGate(nn.Module):
    """Squeeze-excitation: scales each channel by a gate computed from all channel means."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(width, width // _SQUEEZE),
            nn.ReLU(),
            nn.Linear(width // _SQUEEZE, width),
            nn.Sigmoid(),
        )

    def forward(self, hidden: Tensor) -> Tensor:
        """Returns the same shape, [B, width, bands, frames]."""
        gate: Tensor = self.fc(hidden.mean(dim=(2, 3)))
        return hidden * gate[:, :, None, None]


def _stage(width_in: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    first = ResidualBlock(width_in, width, stride)
    return nn.Sequential(first, *(ResidualBlock(width, width, 1) for _ in range(blocks - 1)))
