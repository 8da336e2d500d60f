"""Runs the probe's stages on one device and tells each step before it is taken.

Every result is compared with the truth of float64 on the CPU. An exception ends the run: what
comes after it in the same process could not be trusted (a CUDA context may be poisoned), so the
parent starts another child for the rest.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from app.devices import hardware
from app.devices.absence import DIRECTML_REFUSED, explain_absence
from app.devices.faults import LITTLE_MEMORY_BYTES
from app.devices.operations import (
    BATCHES,
    CLIP_LENGTHS_S,
    CONTEXT,
    DFT,
    DFT_BATCH,
    DFT_LENGTH_S,
    DFT_LIMIT,
    DTYPE_LIMITS,
    DTYPE_STAGES,
    FFT,
    FFT_LIMIT,
    NUM_CALLS,
    STFT_SHAPES,
    StftShape,
)
from app.devices.probe_child import stack
from app.devices.probe_child.layers import LayerCheck, layer_checks
from app.devices.probe_child.references import power_spectrum, voices_like
from app.devices.probe_child.spectra import power_by_fft, power_by_matrix, window_of
from app.devices.progress import (
    DeviceAbsent,
    DeviceChosen,
    Event,
    Failed,
    Finished,
    Measured,
    MemorySeen,
    OperationBegun,
    StackSeen,
    StageBegun,
    StageDone,
)
from app.devices.report import DtypeName
from app.settings import read_environment

#: Below this the machine's own memory is too scarce to tell a fault from a want of memory.
_LITTLE_HOST_BYTES = 1 << 29
_HIDING_VARIABLES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")

Tell = Callable[[Event], None]


def run_stages(wanted: str, stages: Sequence[str], tell: Tell) -> bool:
    """Runs the stages in order; False when one raised, and the rest was left.

    Args:
        wanted: auto, or a device as torch names it.
        stages: which of `operations.WORK_STAGES` to run.
        tell: takes each event at once.
    """
    device = wanted
    try:
        with _stage(CONTEXT, tell):
            chosen = _choose_device(wanted, tell)
            if chosen is None or not _open_device(chosen, tell):
                tell(Finished())
                return True
            device = chosen
        runner = _Runner(torch.device(device), tell)
        with torch.inference_mode():
            for stage in stages:
                with _stage(stage, tell):
                    runner.run(stage)
        tell(StackSeen(stack.read_stack(device)))
    except Exception as error:  # noqa: BLE001 - the child's boundary; its kind is judged outside
        tell(Failed(f"{type(error).__name__}: {error}", _free_bytes_or_none(device)))
        return False
    tell(Finished())
    return True


class _Runner:
    """The stages of work on one device; references are made once for all of them."""

    def __init__(self, device: torch.device, tell: Tell) -> None:
        self._device = device
        self._tell = tell

    def run(self, stage: str) -> None:
        """Runs one stage of work."""
        if stage == DFT:
            for shape in STFT_SHAPES:
                self._check_matrix_spectrum(shape)
        if stage == FFT:
            for shape in STFT_SHAPES:
                self._check_stfts(shape)
        for dtype in DTYPE_STAGES:
            if dtype == stage:
                for check in self._layer_checks:
                    self._check_layer(check, dtype)

    @cached_property
    def _layer_checks(self) -> list[LayerCheck]:
        return layer_checks()

    def _check_layer(self, check: LayerCheck, dtype: DtypeName) -> None:
        self._tell(OperationBegun(check.name, dtype, batch=check.batch))
        result = check.result_on(self._device, getattr(torch, dtype))
        self._tell(measure(result.float().numpy(), check.expected.numpy(), DTYPE_LIMITS[dtype]))

    def _check_stfts(self, shape: StftShape) -> None:
        longest = int(max(CLIP_LENGTHS_S) * shape.sample_rate)
        rows = voices_like(max(BATCHES), longest, shape.sample_rate)
        for length_s in CLIP_LENGTHS_S:
            self._check_stft(shape, length_s, rows[:, : int(length_s * shape.sample_rate)])

    def _check_stft(self, shape: StftShape, length_s: float, rows: npt.NDArray[np.float32]) -> None:
        expected = np.stack([power_spectrum(row, shape) for row in rows])
        window = window_of(shape, self._device)
        for batch, call in itertools.product(BATCHES, range(NUM_CALLS)):
            # Each call gets other rows: a second call that writes nothing must not find the
            # first one's right answer in the memory it was given.
            picked = (np.arange(batch) + call) % len(rows)
            self._tell(OperationBegun(shape.name, "float32", batch, length_s, call + 1))
            samples = torch.from_numpy(rows[picked]).to(self._device)
            self._tell(measure(power_by_fft(samples, shape, window), expected[picked], FFT_LIMIT))

    def _check_matrix_spectrum(self, shape: StftShape) -> None:
        rows = voices_like(DFT_BATCH, int(DFT_LENGTH_S * shape.sample_rate), shape.sample_rate)
        expected = np.stack([power_spectrum(row, shape) for row in rows])
        name = f"{shape.name} by matrix product"
        self._tell(OperationBegun(name, "float32", DFT_BATCH, DFT_LENGTH_S))
        samples = torch.from_numpy(rows).to(self._device)
        power = power_by_matrix(samples, shape, window_of(shape, self._device))
        self._tell(measure(power, expected, DFT_LIMIT))


def measure(
    actual: npt.NDArray[np.float32], expected: npt.NDArray[np.float64], limit: float
) -> Measured:
    """Compares a result with the truth: the largest error as a part of the largest true value."""
    all_zero = not actual.any()
    if actual.shape != expected.shape or not np.isfinite(actual).all():
        return Measured(None, limit, all_zero)
    difference = float(np.abs(actual - expected).max() / np.abs(expected).max())
    return Measured(difference, limit, all_zero)


def _choose_device(wanted: str, tell: Tell) -> str | None:
    """Returns the device to try; None when the one wanted is not to be had."""
    if wanted.startswith("privateuseone"):
        tell(DeviceAbsent("no_gpu", "directml", DIRECTML_REFUSED))
        return None
    if wanted == "cpu":
        return "cpu"
    if wanted in ("auto", "cuda") and torch.cuda.is_available():
        return "cuda"
    if wanted in ("auto", "mps") and torch.backends.mps.is_available():
        return "mps"
    if wanted == "mps":
        tell(DeviceAbsent("no_gpu", "mps", "This torch or this machine has no Metal (mps)."))
        return None
    gpus = (*hardware.nvidia_gpus(), *hardware.amd_gpus())
    hidden_by = next(
        (
            name
            for name, value in read_environment(_HIDING_VARIABLES).items()
            if value in ("", "-1")
        ),
        None,
    )
    absence = explain_absence(stack.torch_build(), gpus, _start_of_cuda(), hidden_by)
    tell(DeviceAbsent(absence.verdict, absence.backend, absence.detail))
    return "cpu" if wanted == "auto" else None


def _start_of_cuda() -> str:
    """Returns what torch says when it is made to start CUDA."""
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:  # a build without CUDA asserts
        return str(error)
    return ""


def _open_device(device: str, tell: Tell) -> bool:
    """Runs a first small kernel and reads the memory; False when too little of it is free."""
    tell(DeviceChosen(device, stack.backend_of(device)))
    tell(OperationBegun("first kernel", "float32"))
    first = torch.ones(16, device=torch.device(device)) * 2
    if float(first.sum().cpu()) != 32.0:
        raise RuntimeError("the first small sum on the device is wrong")
    free, total = stack.read_memory(device)
    little = _LITTLE_HOST_BYTES if device == "cpu" else LITTLE_MEMORY_BYTES
    enough = free is None or free >= little
    tell(StackSeen(stack.read_stack(device)))
    tell(MemorySeen(free, total, enough))
    return enough


def _free_bytes_or_none(device: str) -> int | None:
    try:
        return stack.read_memory(device)[0]
    except (RuntimeError, AssertionError):  # the device that failed may not answer any more
        return None


@contextmanager
def _stage(name: str, tell: Tell) -> Iterator[None]:
    started = time.monotonic()
    tell(StageBegun(name))
    yield
    tell(StageDone(name, time.monotonic() - started))
