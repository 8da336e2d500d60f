"""Where the model runs, in which number format, with how many threads: each with its reason."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from app.devices.hardware import amd_gpus, nvidia_gpus
from app.devices.place_order import PlaceOrder
from app.devices.probe import PROBING, cached_report, probe
from app.devices.report import ProbeReport
from app.devices.routes import Choice, FftRoute, choose_routes, log_routes
from app.engine.formats import Formats, choose_cpu_formats, uniform_formats
from app.messages import Route
from app.settings import Settings


@dataclass(frozen=True)
class Placement:
    """What the model is loaded with; `reason` says why the device was taken.

    `dtype` is the GPU's number format; a CPU's also depends on the model (`formats`).
    """

    device: torch.device
    dtype: torch.dtype
    fft_route: FftRoute
    reason: str
    routes: tuple[Route, ...]
    precision: str = "auto"

    def formats(self, gpt_bytes: int) -> Formats:
        """Returns the number formats for a model whose GPT has matrices of this size in float32."""
        if self.device.type == "cpu":
            return choose_cpu_formats(self.precision, gpt_bytes)
        (reason,) = (route.reason for route in self.routes if route.name == "precision")
        return uniform_formats(self.dtype, reason)


def place_model(
    settings: Settings, report: Callable[[str], None], order: PlaceOrder | None = None
) -> Placement:
    """Returns where to run. A GPU is tried first, in a child process, before it is trusted.

    The CPU is trusted unless a probe of it is remembered that says otherwise, or one is ordered.

    Args:
        settings: what the user asked for.
        report: told in words what is being done.
        order: wins over the settings.
    """
    order = order or PlaceOrder()
    reason = order.reason if order.device == "cpu" else _reason_for_cpu(settings)
    if reason:
        # a number format chosen for the GPU is not meant for the CPU that stands in for it
        updates = {"device": "cpu"} | ({"precision": "auto"} if order.device else {})
        settings = settings.model_copy(update=updates)
        if order.reprobe:
            report(f"{PROBING} the CPU")
            found: ProbeReport | None = probe(settings, "cpu", use_cache=False)
        else:
            found = cached_report(settings, "cpu")
    else:
        report(f"{PROBING} the GPU")
        found = probe(settings, settings.device, use_cache=not order.reprobe)
    return _placement(found, settings, reason)


def _placement(found: ProbeReport | None, settings: Settings, reason: str) -> Placement:
    """Returns what follows from a report, or from its absence on a CPU that nobody doubts."""
    if found is None:
        found = ProbeReport("no_gpu", "cpu", "cpu", "not tried, for nobody doubts it")
        fft: Choice[FftRoute] = Choice("device", "nobody doubts the CPU's FFT")
        choices = replace(choose_routes(found, settings), fft=fft)
    else:
        choices = choose_routes(found, settings)
        log_routes(choices)
    reason = reason or choices.device.reason
    return Placement(
        device=torch.device(choices.device.choice),
        dtype=getattr(torch, choices.dtype.choice),
        fft_route=choices.fft.choice,
        reason=reason,
        routes=(
            Route("device", choices.device.choice, reason),
            Route("precision", choices.dtype.choice, choices.dtype.reason),
            Route("spectra", choices.fft.choice, choices.fft.reason),
        ),
        precision=settings.precision,
    )


def choose_threads(wanted: int) -> tuple[int, str]:
    """Returns the number of CPU threads to compute with, and why."""
    if wanted:
        return wanted, "THREADS"
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)), "the processors this process may use"
    return os.cpu_count() or 1, "the processors of this machine"


def _reason_for_cpu(settings: Settings) -> str:
    """Returns why the CPU is taken without trying a GPU; empty where one is to be tried."""
    if settings.force_cpu:
        return "FORCE_CPU"
    if settings.device == "cpu":
        return "DEVICE=cpu"
    if settings.device == "auto" and not _shows_gpu():
        return "the system shows no GPU"
    return ""


def _shows_gpu() -> bool:
    """Looks without torch, in no time; a machine without any GPU needs no probe."""
    return bool(nvidia_gpus() or amd_gpus()) or sys.platform == "darwin"
