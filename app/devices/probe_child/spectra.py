"""The power spectra under test: by torch.stft, and by a matrix product without any FFT.

The second is what `app.engine.dft` does; it lies above this layer, so the few lines are here
again, in the plainest form: a probe tries the device, not that module.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from app.devices.operations import StftShape
from app.devices.probe_child.references import window_samples


def window_of(shape: StftShape, device: torch.device) -> Tensor:
    """Returns the shape's window [win_length] in float32 on the device."""
    return torch.from_numpy(window_samples(shape.window, shape.win_length)).float().to(device)


def power_by_fft(samples: Tensor, shape: StftShape, window: Tensor) -> npt.NDArray[np.float32]:
    """Returns [batch, n_fft // 2 + 1, frames] of [batch, num_samples], as the mels get it."""
    spectrum = torch.stft(
        samples,
        shape.n_fft,
        shape.hop_length,
        shape.win_length,
        window,
        center=True,
        pad_mode="reflect",
        return_complex=True,
    )
    power: npt.NDArray[np.float32] = spectrum.abs().square().cpu().numpy()
    return power


def power_by_matrix(samples: Tensor, shape: StftShape, window: Tensor) -> npt.NDArray[np.float32]:
    """Returns the same by a product with cosines and sines."""
    taps = np.arange(shape.n_fft)
    turns = np.outer(taps, np.arange(shape.n_fft // 2 + 1)) % shape.n_fft
    angles = turns * (2 * np.pi / shape.n_fft)
    table = np.concatenate((np.cos(angles), np.sin(angles)), axis=1).astype(np.float32)
    left = (shape.n_fft - shape.win_length) // 2
    weights = F.pad(window, (left, shape.n_fft - shape.win_length - left))
    basis = weights.unsqueeze(1) * torch.from_numpy(table).to(samples.device)
    margin = shape.n_fft // 2
    padded = F.pad(samples.unsqueeze(1), (margin, margin), mode="reflect").squeeze(1)
    real, imaginary = (padded.unfold(-1, shape.n_fft, shape.hop_length) @ basis).chunk(2, dim=-1)
    power = (real.square() + imaginary.square()).transpose(1, 2)
    result: npt.NDArray[np.float32] = power.cpu().numpy()
    return result
