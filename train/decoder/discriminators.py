"""Networks that learn to tell speech from what the decoder made of it.

Multi-period (HiFi-GAN: Kong et al. 2020) and multi-resolution (UnivNet: Jang et al. 2021), both
small: they are for training alone, and on a CPU. Each returns its map of scores last and the
features before it.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

_PERIODS = (2, 3, 5, 7, 11)
_RESOLUTIONS = ((512, 128), (1024, 256), (2048, 512))
_SLOPE = 0.1
_SMALLEST = 1e-4


class PeriodDiscriminator(nn.Module):
    """Looks at every `period`-th sample at a time."""

    def __init__(self, period: int, channels: int) -> None:
        super().__init__()
        self._period = period
        sizes = (1, channels, 2 * channels, 4 * channels)
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(a, b, (5, 1), (3, 1), (2, 0))) for a, b in pairwise(sizes)
        )
        self.last = weight_norm(nn.Conv2d(sizes[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, samples: Tensor) -> list[Tensor]:
        """Returns features and scores of waveforms [rows, samples]."""
        rest = -samples.shape[1] % self._period
        padded = F.pad(samples[:, None], (0, rest), mode="reflect")
        hidden = padded.view(len(samples), 1, -1, self._period)
        return _run(self.layers, self.last, hidden)


class ResolutionDiscriminator(nn.Module):
    """Looks at the magnitudes of one spectrogram."""

    def __init__(self, size: int, hop: int, channels: int) -> None:
        super().__init__()
        self._size, self._hop = size, hop
        self.register_buffer("_window", torch.hann_window(size), persistent=False)
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(1 if i == 0 else channels, channels, (7, 3), (3, 1), (3, 1)))
            for i in range(3)
        )
        self.last = weight_norm(nn.Conv2d(channels, 1, 3, padding=1))

    def forward(self, samples: Tensor) -> list[Tensor]:
        """Returns features and scores of waveforms [rows, samples]."""
        window = self.get_buffer("_window")
        spectrum = torch.stft(samples, self._size, self._hop, window=window, return_complex=True)
        power = spectrum.real**2 + spectrum.imag**2 + _SMALLEST**2
        return _run(self.layers, self.last, 0.5 * power.log()[:, None])


def _run(layers: nn.ModuleList, last: nn.Module, hidden: Tensor) -> list[Tensor]:
    found = []
    for layer in layers:
        hidden = F.leaky_relu(layer(hidden), _SLOPE)
        found.append(hidden)
    return [*found, last(hidden)]


class Discriminators(nn.Module):
    """All of them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.parts = nn.ModuleList(
            [
                *(PeriodDiscriminator(period, channels) for period in _PERIODS),
                *(ResolutionDiscriminator(size, hop, channels) for size, hop in _RESOLUTIONS),
            ]
        )

    def forward(self, samples: Tensor) -> list[list[Tensor]]:
        """Returns what each discriminator found in waveforms [rows, samples] (float32)."""
        return [part(samples) for part in self.parts]
