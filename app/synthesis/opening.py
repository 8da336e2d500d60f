"""Opens a synthesizer: finds the model, fetches it if it may, and loads it where it is to run."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch

from app.devices.place_order import PlaceOrder
from app.engine.dft import spectrum_by_route
from app.engine.native_decoder import NativeDecoder
from app.engine.native_library import load_native
from app.errors import NotFoundError
from app.messages import Route, VoiceInfo
from app.models.bundles import XTTS_V2, Bundle, find_bundle
from app.models.capacity import Capacity, choose_capacity
from app.models.download import fetch_model, fetched_bytes
from app.models.footprint import estimate_footprint, place_of
from app.models.loading import LoadedModel, load_model
from app.settings import Settings
from app.synthesis.info import ModelInfo
from app.synthesis.memory import free_bytes, naming_faults
from app.synthesis.placing import Placement, choose_threads, place_model
from app.synthesis.synthesizer import Synthesizer
from app.voices.latents import VoiceLatents
from app.voices.store import VoiceStore


class Report(Protocol):
    """Is told what is being done, and the device as soon as it is chosen."""

    def __call__(self, stage: str, device: str = "") -> None:
        """Tells it."""


_TELL_EVERY_S = 3.0

_log = logging.getLogger(__name__)


def open_synthesizer(
    settings: Settings, report: Report, order: PlaceOrder | None = None
) -> Synthesizer:
    """Finds and loads the model that the settings name.

    Args:
        settings: the worker's.
        report: told in words what is being done.
        order: where to run, if the settings are not to decide.

    Raises:
        AudioVoiceError: the model is not there, may not be fetched, or its files are no good.
    """
    threads, threads_reason = choose_threads(settings.threads)
    torch.set_num_threads(threads)
    place = place_model(settings, report, order)
    bundle = _find_or_fetch(settings, report)
    report(
        f"loading {bundle.name} on {place.device} "
        f"({place.reason}; {threads} threads: {threads_reason})",
        str(place.device),
    )
    with naming_faults(place.device):
        model = load_model(
            bundle,
            place.device,
            formats=place.formats,
            cache_dir=settings.cache_dir,
            power=spectrum_by_route(place.fft_route),
        )
    store = VoiceStore(settings.voices_dir, settings.max_voices)
    latents = VoiceLatents(model, store, settings.voices_dir / ".latents")
    threads_route = Route("threads", str(threads), threads_reason)
    capacity = _choose_capacity(settings, place, bundle, order)
    _log.info("rows: %d (%s)", *capacity.rows)
    routes = (*_loaded_routes(place, model), *_layers_route(model), threads_route)
    routes = (*routes, *capacity.routes())
    info = describe(model, settings, str(place.device), place.reason, routes)
    return Synthesizer(model, latents, settings, info, capacity)


def _choose_capacity(
    settings: Settings, place: Placement, bundle: Bundle, order: PlaceOrder | None
) -> Capacity:
    """Returns the rows and their room, with the model loaded in the format that was chosen."""
    where = place_of(str(place.device))
    if place.dtype == torch.float32:  # which may be against PRECISION, or what `auto` came to
        settings = settings.model_copy(update={"precision": "float32"})
    return choose_capacity(
        settings,
        where,
        order=order.rows if order else None,
        need=estimate_footprint(bundle, settings, where),
        free_bytes=free_bytes(place.device),
    )


def _loaded_routes(place: Placement, model: LoadedModel) -> tuple[Route, ...]:
    """Returns the placement's choices, with the number formats that the model was loaded in."""
    formats = Route("precision", str(model.formats), model.formats.reason)
    return tuple(formats if route.name == "precision" else route for route in place.routes)


def _layers_route(model: LoadedModel) -> tuple[Route, ...]:
    """Returns what runs the layers, where that was a choice."""
    if not model.speech.gpt.is_int8:
        return ()
    if NativeDecoder.fits(model.speech.gpt, model.speech.cache_dtype):
        return (Route("layers", "compiled", load_native().reason),)
    reason = "their sizes are no multiples of a vector's" if load_native().library else ""
    return (Route("layers", "torch", reason or load_native().reason),)


def describe(
    model: LoadedModel,
    settings: Settings,
    device: str,
    reason: str,
    routes: tuple[Route, ...] = (),
) -> ModelInfo:
    """Returns what is told about a model that runs on a device."""
    voices = []
    for name in model.voices:
        entry = model.voice_entries.get(name)
        voices.append(
            VoiceInfo(
                name=name,
                languages=list(entry.languages if entry else model.languages),
                description=entry.description if entry else "",
            )
        )
    return ModelInfo(
        model=model.name,
        version=model.version,
        licence=model.licence,
        languages=model.languages,
        voices=tuple(voices),
        default_voice=settings.default_voice or model.default_voice,
        sample_rate=model.sample_rate,
        device=device,
        device_reason=reason,
        routes=routes,
    )


def _find_or_fetch(settings: Settings, report: Report) -> Bundle:
    try:
        return find_bundle(settings.default_model, settings)
    except NotFoundError:
        if settings.default_model != XTTS_V2:
            raise
    with _telling_progress(settings, report):
        fetch_model(XTTS_V2, settings)
    return find_bundle(XTTS_V2, settings)


@contextmanager
def _telling_progress(settings: Settings, report: Report) -> Iterator[None]:
    """Tells every few seconds how much of a download has arrived, while it goes on."""
    is_over = threading.Event()

    def tell() -> None:
        while True:
            megabytes = fetched_bytes(XTTS_V2, settings) / 1e6
            report(f"fetching {XTTS_V2}: {megabytes:.0f} MB have arrived")
            if is_over.wait(_TELL_EVERY_S):
                return

    teller = threading.Thread(target=tell, name="download progress", daemon=True)
    teller.start()
    try:
        yield
    finally:
        is_over.set()
        teller.join()
