"""Power spectra of sound by three routes: the device's FFT, the CPU's, or no FFT at all.

XTTS needs three short-time Fourier transforms, and on some stacks the device's FFT is the one
thing that does not work. The route without an FFT is a matrix product of windowed frames with
cosines and sines: more arithmetic, the same numbers (within 1e-5 of the largest), and it runs
wherever matrix products run. Which route to take is decided elsewhere (`app.devices.routes`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from app.devices.routes import FftRoute
from app.errors import InputError

#: Frames multiplied at once; bounds the memory of the route without FFT (16 MB for 1024 samples).
_FRAMES_AT_ONCE = 4096


def power_spectrogram(
    samples: Tensor,
    n_fft: int,
    win_length: int,
    hop_length: int,
    window: Tensor,
    route: FftRoute = "device",
) -> Tensor:
    """Returns the power spectrum of each frame, as torchaudio's Spectrogram(power=2) makes it.

    Frames are centred on their time, with the sound reflected at its ends.

    Args:
        samples: [batch, num_samples] on any device; computed in float32 whatever comes in.
        n_fft: length of the transform in samples, even.
        win_length: length of the window in samples, at most `n_fft`; it lies in the middle.
        hop_length: samples from frame to frame.
        window: [win_length] weights.
        route: `device` (torch.stft where the samples are), `cpu` (the same on the CPU, moved
            back), or `dft` (no FFT, where the samples are).

    Returns:
        [batch, n_fft // 2 + 1, 1 + num_samples // hop_length], float32, on the samples' device.

    Raises:
        InputError: the sound is too short to be reflected by half a transform.
    """
    if samples.shape[-1] <= n_fft // 2:
        raise InputError(
            f"The audio has {samples.shape[-1]} samples and needs more than {n_fft // 2}; "
            "use a longer clip.",
            param="audio",
        )
    device = samples.device
    with _full_precision(device):
        samples, window = samples.float(), window.to(device).float()
        if route == "dft":
            return _power_without_fft(samples, n_fft, win_length, hop_length, window)
        if route == "cpu":
            samples, window = samples.cpu(), window.cpu()
        spectrum = torch.stft(
            samples,
            n_fft,
            hop_length,
            win_length,
            window,
            center=True,
            pad_mode="reflect",
            return_complex=True,
        )
        # Squares of the parts, not abs().square(): the root between would only cost precision.
        return torch.view_as_real(spectrum).square().sum(-1).to(device)


def spectrum_by_route(route: FftRoute) -> Callable[[Tensor, Tensor, int, int], Tensor]:
    """Returns the spectrum function of one route as the mel front ends of `models` take it.

    It takes (samples [batch, num_samples], window [win_length], n_fft, hop_length).
    """

    def power_spectrum(samples: Tensor, window: Tensor, n_fft: int, hop_length: int) -> Tensor:
        return power_spectrogram(samples, n_fft, window.shape[0], hop_length, window, route)

    return power_spectrum


def _power_without_fft(
    samples: Tensor, n_fft: int, win_length: int, hop_length: int, window: Tensor
) -> Tensor:
    """The transform as a matrix product. Only the window's taps count: the rest is zero."""
    basis = _windowed_basis(n_fft, win_length, window)
    margin = (n_fft - win_length) // 2
    padded = F.pad(samples.unsqueeze(1), (n_fft // 2, n_fft // 2), mode="reflect").squeeze(1)
    num_frames = 1 + (padded.shape[-1] - n_fft) // hop_length
    # [batch, frames, win_length], a view into the padded sound
    frames = padded[:, margin:].unfold(-1, win_length, hop_length)[:, :num_frames]
    blocks = torch.split(frames, _FRAMES_AT_ONCE, dim=1)
    powers = [_power_of_frames(block, basis) for block in blocks]
    return torch.cat(powers, dim=1).transpose(1, 2).contiguous()


def _power_of_frames(frames: Tensor, basis: Tensor) -> Tensor:
    """Returns [batch, frames, bins] from [batch, frames, win_length] and the windowed basis."""
    real, imaginary = (frames @ basis).chunk(2, dim=-1)
    return real.square() + imaginary.square()


def _windowed_basis(n_fft: int, win_length: int, window: Tensor) -> Tensor:
    """Returns [win_length, 2 * bins]: the window times cosines, then times sines.

    The products of tap and bin are reduced by whole turns as integers, so that every entry is
    exact to float32; 1024 * 1024 / n_fft turns in floating point would not be. Where in the frame
    the window lies turns only the phase, which the power does not see.
    """
    device = window.device
    turn = torch.arange(n_fft, dtype=torch.float64) * (2 * math.pi / n_fft)
    cosines, sines = turn.cos().float().to(device), turn.sin().float().to(device)
    taps = torch.arange(win_length, device=device)
    bins = torch.arange(n_fft // 2 + 1, device=device)
    steps = torch.outer(taps, bins) % n_fft
    return window.unsqueeze(1) * torch.cat((cosines[steps], sines[steps]), dim=1)


@contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """Keeps autocast and TF32 out: their 8 to 11 bits would show in the quiet parts of a mel."""
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        if torch.amp.autocast_mode.is_autocast_available(device.type):
            with torch.autocast(device.type, enabled=False):
                yield
        else:
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed
