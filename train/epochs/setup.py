"""Puts together what happens around the epochs, by the settings and by what the probe saw."""

from __future__ import annotations

import logging

import torch
from rich.console import Console

from app.devices.probe import cached_report, probe
from app.devices.report import ProbeReport
from app.devices.routes import Choice, SampleRoute, choose_sample_route
from app.settings import Settings
from app.synthesis.placing import Placement, place_model
from train.data.prepared import PreparedClips
from train.epochs.beside import BesideRunner, Patience
from train.epochs.listener import Listener
from train.epochs.observer import SAMPLES, EpochWork, Parts
from train.epochs.sentences import plan_listening
from train.epochs.speaking import Place
from train.epochs.view import View
from train.options import TrainingOptions

_log = logging.getLogger(__name__)


def watch_epochs(
    clips: PreparedClips,
    settings: Settings,
    options: TrainingOptions,
    *,
    console: Console | None = None,
    runner: BesideRunner | None = None,
) -> EpochWork:
    """Returns the observer of a run.

    Args:
        clips: of the run.
        settings: of the service: models, device, sample route, patience.
        options: of the trainer.
        console: where to show the run; stderr if left out.
        runner: of the children; the usual one if left out.

    Raises:
        SettingsError: no clip is held out.
    """
    base_model = options.base_model or settings.default_model
    plan = plan_listening(clips, base_model, settings, options)
    route, place = choose_place(settings)
    patience = Patience(settings.worker_start_timeout_s, settings.stall_timeout_s)
    folder = options.train_output_dir.absolute() / SAMPLES
    listener = Listener(plan, folder, route, place, runner or BesideRunner(patience))
    view = View(console or Console(stderr=True))
    return EpochWork(Parts(plan, listener, view, options))


def choose_place(settings: Settings) -> tuple[Choice[SampleRoute], Place]:
    """Returns where samples are made, and what this process would make them with."""
    placement = place_model(settings, _log.info)
    report = _report_on(placement, settings)
    place = Place(placement.device, placement.dtype, placement.fft_route, placement.reason)
    return choose_sample_route(report, settings), place


def _report_on(placement: Placement, settings: Settings) -> ProbeReport:
    if torch.device(placement.device).type != "cpu":
        return probe(settings, settings.device)
    known = cached_report(settings, "cpu")
    return known or ProbeReport("no_gpu", "cpu", "cpu", placement.reason)
