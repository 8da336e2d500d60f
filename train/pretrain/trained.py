"""What the stages have trained so far, loaded from their newest checkpoints.

Where a stage has none and the run starts from a bundle, the bundle's weights stand in: half
precision and no optimizer state, but every stage goes on from what was learned. Knows which
network belongs to which stage; trains nothing.
"""

from __future__ import annotations

from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from TTS.tts.layers.xtts.dvae import DiscreteVAE
from TTS.vocoder.models.hifigan_generator import HifiganGenerator

from app.errors import UnavailableError
from train.checkpoints import list_checkpoints, load_newest
from train.pretrain.codes import CodesModule, build_dvae, num_phones
from train.pretrain.gpt_model import PackedGpt, build_gpt
from train.pretrain.vocoder import build_generator, graft
from train.pretrain.workspace import Workspace


def load_dvae(work: Workspace) -> DiscreteVAE:
    """Returns the trained DVAE."""
    if _must_use_bundle(work, "codes"):
        return bundle_dvae(work)
    module = CodesModule(work.recipe.codes, num_phones(work.corpus))
    module.load_state_dict(stage_state(work, "codes")["module"])
    return module.dvae.eval()


def bundle_dvae(work: Workspace) -> DiscreteVAE:
    """Returns the DVAE of the bundle that the run starts from."""
    dvae = build_dvae(work.recipe.codes)
    dvae.load_state_dict(_bundle_state(work, "training/dvae.safetensors"))
    return dvae.eval()


def load_gpt(work: Workspace) -> PackedGpt:
    """Returns the GPT with the running average of its weights."""
    module = new_gpt(work)
    state = stage_state(work, "gpt")
    module.load_state_dict(state["module"] | state["average"])
    module.eval()
    return module


def load_generator(work: Workspace) -> HifiganGenerator:
    """Returns the generator for GPT latents, as far as it is trained."""
    state = load_newest(work.folder / "decoder")
    if state is None:
        return new_generator(work)
    generator = build_generator(work.recipe.decoder, work.recipe.gpt.width)
    generator.load_state_dict(state["module"])
    return generator


def new_generator(work: Workspace) -> HifiganGenerator:
    """Returns the generator that the decoder stage starts with: the bundle's, or a grafted one."""
    if not _must_use_bundle(work, "decoder_mel"):
        return graft(_mel_generator(work), load_gpt(work).mel_out, work.recipe.decoder)
    generator = build_generator(work.recipe.decoder, work.recipe.gpt.width)
    state = _bundle_state(work, "model.safetensors")
    generator.load_state_dict(_under(state, "hifigan_decoder.waveform_decoder."))
    return generator


def _mel_generator(work: Workspace) -> HifiganGenerator:
    generator = build_generator(work.recipe.decoder, 80 * work.recipe.frames_per_code)
    generator.load_state_dict(stage_state(work, "decoder_mel")["module"])
    return generator


def stage_state(work: Workspace, stage: str) -> dict[str, Any]:
    """Returns the newest checkpoint of a stage.

    Raises:
        UnavailableError: it has none.
    """
    state = load_newest(work.folder / stage)
    if state is None:
        raise UnavailableError(f"stage {stage} has no checkpoint; run it first: --stage {stage}.")
    return state


def new_gpt(work: Workspace) -> PackedGpt:
    """Returns the GPT that its stage starts with: from the seed, or the bundle's."""
    torch.manual_seed(work.recipe.seed)
    recipe = work.recipe
    gpt = build_gpt(recipe.gpt, recipe.codes, work.vocabulary.num_tokens)
    module = PackedGpt(gpt, recipe.frames_per_code, recipe.gpt.dropout)
    if work.start_from is not None:
        gpt.load_state_dict(_under(_bundle_state(work, "model.safetensors"), "gpt."))
        module.mel_out.load_state_dict(_bundle_state(work, "training/mel_out.safetensors"))
    return module


def _must_use_bundle(work: Workspace, stage: str) -> bool:
    return work.start_from is not None and not list_checkpoints(work.folder / stage)


def _bundle_state(work: Workspace, name: str) -> dict[str, Tensor]:
    assert work.start_from is not None
    state = load_file(work.start_from / name)
    return {key: v.float() if v.is_floating_point() else v for key, v in state.items()}


def _under(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
