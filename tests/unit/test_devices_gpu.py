"""The probe and its neighbours on a real NVIDIA card; skipped where there is none.

Everything that touches the card runs in children, so that no context of ours stays on it.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from gpu_card import assert_given_back, free_memory, on_gpu

from app.devices import hardware
from app.devices.faults import LITTLE_MEMORY_BYTES, classify_fault
from app.devices.probe import probe
from app.devices.report import FFT_FAULTS
from app.devices.routes import choose_routes
from app.isolation import kill_group, spawn_session
from app.settings import Settings

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not hardware.nvidia_gpus(), reason="no NVIDIA GPU in this machine"),
]

COLD_LIMIT_S = 20.0

FILL = """
import torch
kept = []
result = ''
try:
    while True:
        kept.append(torch.empty(256 << 20, dtype=torch.uint8, device='cuda'))
except RuntimeError as error:
    result = f'{type(error).__name__}: {error}', torch.cuda.mem_get_info(0)[0]
"""
FFT_WITH_LITTLE_MEMORY = """
import torch
free = torch.cuda.mem_get_info(0)[0]
sound = torch.ones(8, 255_780, device='cuda')
window = torch.hann_window(1024, device='cuda')
result = None
try:
    kept = torch.empty(free - (100 << 20), dtype=torch.uint8, device='cuda')
    for _ in range(3):
        kept_too = torch.stft(sound, 2048, 256, 1024, window, return_complex=True)
except RuntimeError as error:
    result = f'{type(error).__name__}: {error}', torch.cuda.mem_get_info(0)[0]
"""
SPECTRA = """
import torch
from app.devices.operations import STFT_SHAPES
from app.devices.probe_child.references import power_spectrum, voices_like
from app.engine.dft import power_spectrogram
torch.backends.cuda.matmul.allow_tf32 = True
windows = {'hamming': torch.hamming_window, 'hann': torch.hann_window}
result = []
for shape in STFT_SHAPES:
    rows = voices_like(2, 6 * shape.sample_rate, shape.sample_rate)
    truth = torch.from_numpy(power_spectrum(rows[0], shape).copy())
    for route in ('dft', 'cpu'):
        with torch.autocast('cuda', dtype=torch.float16):
            power = power_spectrogram(
                torch.from_numpy(rows).cuda(), shape.n_fft, shape.win_length, shape.hop_length,
                windows[shape.window](shape.win_length), route)
        assert power.is_cuda
        result.append(float((power[0].cpu().double() - truth).abs().max() / truth.max()))
"""
BUSY = """
import torch
a = torch.ones(8192, 8192, device='cuda')
print('busy', flush=True)
while True:
    a = a @ a
"""


def test_whole_probe_on_the_card(tmp_path: Path) -> None:
    settings = Settings(cache_dir=tmp_path)
    before = free_memory()
    report = probe(settings, "cuda", use_cache=False)
    assert report.device == "cuda"
    assert report.stack.gpu_name
    assert report.stack.compute_capability
    assert report.stack.driver
    assert report.total_bytes
    assert report.duration_s < COLD_LIMIT_S
    if report.verdict not in {*FFT_FAULTS, "gpu_dead", "no_kernel_image"}:
        assert "libcufft" in report.stack.fft_file
        assert report.stack.cufft
        assert report.is_safe("float32")
        assert choose_routes(report, settings).device.choice == "cuda"
    else:
        assert report.evidence
    assert_given_back(before)


def test_real_out_of_memory_is_told_and_given_back() -> None:
    before = free_memory()
    text, free_bytes = on_gpu(FILL)
    assert classify_fault(text, free_bytes).kind == "out_of_memory"
    assert_given_back(before)


def test_fft_in_a_full_card_counts_as_out_of_memory() -> None:
    told = on_gpu(FFT_WITH_LITTLE_MEMORY)
    if told is None:
        pytest.skip("this card's FFTs fit into what was left")
    text, free_bytes = told
    assert free_bytes < LITTLE_MEMORY_BYTES
    assert classify_fault(text, free_bytes).kind == "out_of_memory"


def test_kill_in_mid_kernel_gives_the_memory_back() -> None:
    before = free_memory()
    process = spawn_session([sys.executable, "-c", BUSY], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"busy\n"
        time.sleep(1)
    finally:
        gone = kill_group(process)
    assert gone
    assert_given_back(before)


def test_spectra_without_fft_are_exact_under_autocast_and_tf32() -> None:
    assert max(on_gpu(SPECTRA)) < 1e-5
