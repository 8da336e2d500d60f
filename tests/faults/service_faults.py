"""Breaks a running worker when a test says so: `python tests/faults/run.py armed:FOLDER MODULE`.

A file in the folder arms a fault by its name and its text names the fault, so one worker after
another can be broken, or left whole, under one service:

- `stft`: a fault of `torch_faults` that concerns the FFT; the probe's child has it too.
- `step`: `hang`, `segv`, `abort`, `nan`, or `full N`: no memory for more than N rows.
- `gpu`: the worker calls its device cuda until it is told to run on the CPU; `full` is its alone.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch_faults import abort, hang, install, segfault

CUDA_FULL = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 11.76 GiB of "
    "which 12.00 MiB is free."
)
_RUN = Path(__file__).resolve().parent / "run.py"
_DEADLY: dict[str, Callable[..., None]] = {"hang": hang, "segv": segfault, "abort": abort}


def install_armed(folder: Path) -> None:
    """Prepares this process for the faults that the folder's files will arm."""
    _arm_stft(folder / "stft")
    _arm_probe(folder / "stft")
    is_on_gpu = _arm_gpu(folder / "gpu")
    _arm_step(folder / "step", is_on_gpu)


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _arm_stft(path: Path) -> None:
    import torch

    healthy = torch.stft

    def stft(*args: Any, **kwargs: Any) -> Any:
        fault = _read(path)
        if not fault:
            return healthy(*args, **kwargs)
        install(fault)  # from here on this process is as broken as any
        return torch.stft(*args, **kwargs)

    torch.stft = stft


def _arm_probe(path: Path) -> None:
    """Gives the probe's child the same fault, and little time, so that a test need not wait."""
    from app.devices import probe
    from app.devices.child_run import Deadlines

    healthy = probe.python_command

    def command(module: str, *arguments: str) -> list[str]:
        fault = _read(path)
        broken = [sys.executable, str(_RUN), fault, module, *arguments]
        return broken if fault else healthy(module, *arguments)

    probe.python_command = command
    probe.ProbePlan = functools.partial(  # type: ignore[misc]
        probe.ProbePlan,
        stages=("float32", "dft", "fft"),
        deadlines=Deadlines(start_s=90, operation_s=4, total_s=120),
    )


def _arm_gpu(path: Path) -> Callable[[], bool]:
    """Returns whether the worker plays a GPU."""
    from app.synthesis import opening

    healthy = opening.open_synthesizer
    plays = [False]

    def open_synthesizer(settings: Any, report: Any, order: Any = None) -> Any:
        plays[0] = path.exists() and order.device != "cpu"
        synthesizer = healthy(settings, report, order)
        if plays[0]:
            synthesizer.info = replace(synthesizer.info, device="cuda")
        return synthesizer

    opening.open_synthesizer = open_synthesizer
    return lambda: plays[0]


def _arm_step(path: Path, is_on_gpu: Callable[[], bool]) -> None:
    import torch

    from app.engine import decoder

    healthy = decoder.GptDecoder.step

    def step(self: Any, rows: Any, tokens: Any) -> Any:
        fault, _, most = _read(path).partition(" ")
        if fault in _DEADLY:
            _DEADLY[fault]()
        if fault == "full" and len(rows) > int(most) and (int(most) or is_on_gpu()):
            raise torch.OutOfMemoryError(CUDA_FULL)
        output = healthy(self, rows, tokens)
        return output._replace(logits=output.logits * torch.nan) if fault == "nan" else output

    decoder.GptDecoder.step = step  # type: ignore[method-assign]
