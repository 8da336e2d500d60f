"""What training will cost on this machine: a few real steps on clips that are made up.

Sizes, weights and optimizer are those of the run, texts and codes are drawn; so the time is real
and the losses mean nothing. Left out are the first step, which also pays for what is done once, and
what is done once for all epochs: preparing the clips.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from app.devices.hardware import host_memory
from app.models.bundles import Bundle
from app.models.config import read_config
from app.models.weights import State, read_state, select
from app.synthesis.placing import Placement
from train.data.base_model import TRAINING_RATE, describe_base
from train.fit.batch import FitBatch
from train.fit.network import PREFIX, SLOW_PARTS, FitGpt, load_network
from train.mels import HOP, NUM_MELS
from train.optimizers import make_optimizer

#: A clip as they are: its seconds, and text tokens for each.
_CLIP_S = 5.0
_TEXT_TOKENS_PER_S = 14
_ROWS = 4
_MOST_STEPS = 4
_ENOUGH_S = 8.0
#: Weights, gradients and the two running means of AdamW, in float32.
_BYTES_PER_WEIGHT = 16
_ACTIVATION_SHARE = 1.3
#: Evaluation of 5 % of the clips (a third of a step's cost) and padding, on top of the steps.
_EXTRA = 1.05
_SECONDS_OF_HOUR = 3600.0


@dataclass(frozen=True)
class TrainingCost:
    """What an hour of clips costs in each epoch.

    Attributes:
        model: what would be trained.
        device: where.
        audio_s_per_s: seconds of audio learnt from in a second; 0 where it does not fit.
        memory_bytes: that training needs, reckoned.
        fault: why there is no figure; empty where there is one.
    """

    model: str
    device: str
    audio_s_per_s: float
    memory_bytes: int
    fault: str = ""

    @property
    def hour_s(self) -> float:
        """Seconds that an hour of clips takes in one epoch."""
        return _SECONDS_OF_HOUR / self.audio_s_per_s * _EXTRA if self.audio_s_per_s else 0.0


def estimate_cost(bundle: Bundle, placement: Placement) -> TrainingCost:
    """Measures a few steps, if there is memory for them.

    Raises:
        ModelFileError: the model can't be trained.
    """
    base = describe_base(bundle)
    config = read_config(bundle.config, bundle.decoder)
    state = read_state(bundle.weights)
    needed = needed_bytes(state)
    device = placement.device
    free = free_bytes(device)
    if free is not None and free < needed:
        fault = f"it needs {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free"
        return TrainingCost(bundle.name, str(device), 0.0, needed, fault)
    network = load_network(state, config, bundle.weights).to(device).train()
    batch = made_up_batch(network, base.stride, device)
    seconds = _step_seconds(network, batch, placement)
    return TrainingCost(bundle.name, str(device), _ROWS * _CLIP_S / seconds, needed)


def needed_bytes(state: State) -> int:
    """Returns the memory that fine-tuning a model takes."""
    weights = sum(value.numel() for value in select(state, PREFIX).values())
    return round(weights * _BYTES_PER_WEIGHT * _ACTIVATION_SHARE)


def free_bytes(device: torch.device) -> int | None:
    """Returns the memory that is free where training would run; None where nobody says."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return host_memory()[0] if device.type == "cpu" else None


def made_up_batch(network: FitGpt, stride: int, device: torch.device) -> FitBatch:
    """Returns rows of clips of usual length whose texts and codes are drawn."""
    sizes = network.sizes
    rng = np.random.default_rng(1)
    num_text = min(int(_CLIP_S * _TEXT_TOKENS_PER_S), sizes.text_positions)
    num_codes = min(int(_CLIP_S * TRAINING_RATE / stride), sizes.audio_positions)
    text = rng.integers(sizes.num_text_tokens, size=(_ROWS, num_text))
    codes = rng.integers(sizes.num_audio_tokens, size=(_ROWS, num_codes))
    places = np.concatenate((np.arange(num_text), sizes.text_positions + np.arange(num_codes)))
    length = num_text + num_codes
    at = np.arange(_ROWS * length).reshape(_ROWS, length)
    rows = np.arange(_ROWS)
    style = rng.standard_normal((_ROWS, NUM_MELS, int(_CLIP_S / 2 * TRAINING_RATE / HOP)))
    parts = (
        style.astype(np.float32),
        np.concatenate((text, sizes.num_text_tokens + codes), axis=1),
        np.broadcast_to(places, (_ROWS, length)).copy(),
        at[:, :num_text].flatten(),
        text.flatten(),
        np.repeat(rows, num_text),
        at[:, num_text:].flatten(),
        codes.flatten(),
        np.repeat(rows, num_codes),
    )
    return FitBatch(*map(torch.from_numpy, parts)).to(device)


def _step_seconds(network: FitGpt, batch: FitBatch, placement: Placement) -> float:
    """Returns the seconds of the fastest step after the first."""
    optimizer = make_optimizer(
        network, rate=1e-6, betas=(0.9, 0.96), weight_decay=0.01, slow=SLOW_PARTS, kind="adamw"
    )
    device = placement.device
    half = placement.dtype == torch.bfloat16
    times: list[float] = []
    while len(times) < 2 or (len(times) < _MOST_STEPS and sum(times) < _ENOUGH_S):
        started = time.monotonic()
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            losses = network(batch)
        loss: Tensor = losses.mel_sum / batch.mel_at.numel() + 0.01 * losses.text_sum
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.monotonic() - started)
    return min(times[1:])
