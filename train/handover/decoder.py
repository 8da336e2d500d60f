"""A model with its decoder fine-tuned, as the service and stock coqui-tts load it.

In the layout of the starting model: a bundle from a bundle, else a stock folder. The waveform
decoder's tensors are new, in the names and number formats of the starting model's file; every other
tensor is the same to the bit.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from app.models.bundles import SOURCE_FILE, Bundle
from app.models.manifest import DataSource, Manifest, hash_files, write_manifest
from app.models.weights import State, read_state
from train.bundle_files import write_json
from train.decoder.generator import put_back
from train.fit.epoch_file import write_companions
from train.handover.licence import NOTICE_FILE, licence_of, write_notice
from train.handover.new_folder import check_free_or_raise, publishing_new


@dataclass(frozen=True)
class DecoderHandover:
    """What is to become a model.

    Attributes:
        base: the model that the decoder comes from.
        trained: `state_dict` of the generator.
        step: of its training.
        data: name of the clips; `hours` of them were learnt from.
        scores: measured quality, by telling names.
    """

    base: Bundle
    trained: Mapping[str, Tensor]
    step: int
    data: str
    hours: float
    scores: dict[str, float] = field(default_factory=dict)

    @property
    def version(self) -> str:
        """Names the starting model's and what was done to it."""
        return f"{self.base.version or 'base'}+decoder-{self.step}"


def export_decoder(handover: DecoderHandover, target: Path) -> Path:
    """Writes the model; it appears whole under its name or not at all.

    Raises:
        SettingsError: `target` exists already, or can't be written.
        OutputError: a weight is not finite or does not fit the number format of the file.
    """
    base = handover.base
    check_free_or_raise(target)  # before anything is read
    state = put_back(read_state(base.weights), handover.trained)
    with publishing_new(target) as made:
        if base.manifest is not None:
            _write_bundle(made, handover, base.manifest, state, target.name)
        else:
            _write_stock(made, handover, state)
    return target


def _write_bundle(
    made: Path, handover: DecoderHandover, manifest: Manifest, state: State, name: str
) -> None:
    base = handover.base
    for file in manifest.files:
        if base.folder / file != base.weights and file != NOTICE_FILE:
            (made / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(base.folder / file, made / file)
    save_file({key: value.contiguous() for key, value in state.items()}, made / base.weights.name)
    write_notice(made, base)
    own = DataSource(
        name=handover.data,
        source="recordings of whoever trained this decoder",
        licence="as their owner says",
        hours=round(handover.hours, 2),
    )
    # not the base's scores: another decoder spoke there
    changes: dict[str, Any] = {
        "name": name,
        "version": handover.version,
        "data": [*manifest.data, own],
        "made_by": f"python -m train decoder on {handover.data}, from {base.name} {base.version}",
        "notes": [
            *manifest.notes,
            f"Its decoder was fine-tuned on {handover.data} from that of {base.name}; all other "
            "weights are the same. Other voices than those recorded there may sound like them.",
        ],
        "scores": handover.scores,
        "files": hash_files(made),
    }
    write_manifest(made, manifest.model_copy(update=changes))


def _write_stock(made: Path, handover: DecoderHandover, state: State) -> None:
    base = handover.base
    torch.save({"model": {key: value.clone() for key, value in state.items()}}, made / "model.pth")
    write_companions(made, base)
    if base.speakers is not None:
        shutil.copyfile(base.speakers, made / base.speakers.name)
    if base.voices_dir is not None:
        shutil.copytree(base.voices_dir, made / base.voices_dir.name)
    write_notice(made, base)
    origin = {
        "model": f"{base.name} with its decoder fine-tuned on {handover.data}",
        "revision": handover.version,
        "licence": licence_of(base) if base.licence else "",
        "scores": handover.scores,
    }
    write_json(made / SOURCE_FILE, origin)
