"""The bundle stage: weights, vocabulary, voices and manifest in the layout that the service loads.

Weights are float16 in stock coqui's key layout. `training/` in the bundle holds the DVAE and
the GPT's mel head, which speaking never needs and further training does.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn

from app.engine.types import Conditioning
from app.errors import OutputError
from app.models.manifest import (
    DataSource,
    DecoderSizes,
    Manifest,
    ModelSizes,
    SamplingDefaults,
    VoiceEntry,
    hash_files,
    write_manifest,
)
from app.models.stored_voices import write_voice
from train.bundle_files import publishing, to_half, write_json
from train.data.levelling import LEVELLING_FILE
from train.mels import MEL_RATE
from train.pretrain.codes import dvae_arguments
from train.pretrain.corpus import AUDIO_RATE, Corpus
from train.pretrain.data import LEVELLING
from train.pretrain.recipe import Recipe
from train.pretrain.vocabulary import START, STOP
from train.pretrain.vocoder import SPEAKER_WIDTH, decoder_arguments

MAX_BUNDLE_BYTES = 64_000_000


@dataclass(frozen=True)
class BundleParts:
    """What the stages made."""

    gpt: nn.Module
    mel_out: nn.Module
    generator: nn.Module
    encoder: nn.Module
    dvae: nn.Module
    mel_stats: Tensor
    voices: dict[str, Conditioning]
    vocabulary_path: Path
    num_text_tokens: int


def write_bundle(
    target: Path,
    recipe: Recipe,
    corpus: Corpus,
    parts: BundleParts,
    *,
    made_by: str,
    notes: list[str],
    scores: dict[str, float],
) -> Path:
    """Writes the bundle folder, whole or not at all; a folder that is there is replaced.

    Raises:
        OutputError: a weight does not fit float16, or the bundle is over its limit.
    """
    with publishing(target, replace=True) as made:
        state = _stock_state(parts)
        save_file(state, made / "model.safetensors")
        (made / "training").mkdir()
        for name, module in (("dvae", parts.dvae), ("mel_out", parts.mel_out)):
            halves = {key: to_half(key, value) for key, value in module.state_dict().items()}
            save_file(halves, made / "training" / f"{name}.safetensors")
        write_json(made / "training" / "dvae.json", dvae_arguments(recipe.codes))
        write_json(made / LEVELLING_FILE, LEVELLING.as_dict())
        shutil.copyfile(parts.vocabulary_path, made / "vocab.json")
        write_json(made / "config.json", config_json(recipe, parts.num_text_tokens))
        write_json(made / "decoder.json", decoder_arguments(recipe.decoder))
        (made / "voices").mkdir()
        for name, voice in parts.voices.items():
            write_voice(made / "voices" / f"{name}.safetensors", voice)
        num_parameters = sum(value.numel() for value in state.values())
        manifest = _manifest(recipe, corpus, parts, num_parameters, made_by, notes, scores, made)
        write_manifest(made, manifest)
        _check_size_or_raise(made)
    return target


def _stock_state(parts: BundleParts) -> dict[str, Tensor]:
    """Returns all weights under the names that stock `Xtts` has for them."""
    prefixed = (
        ("gpt.", parts.gpt),
        ("hifigan_decoder.waveform_decoder.", parts.generator),
        ("hifigan_decoder.speaker_encoder.", parts.encoder),
    )
    state = {
        f"{prefix}{name}": to_half(name, value)
        for prefix, module in prefixed
        for name, value in module.state_dict().items()
    }
    return state | {"mel_stats": parts.mel_stats.float()}


def _check_size_or_raise(folder: Path) -> None:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if size > MAX_BUNDLE_BYTES:
        raise OutputError(
            f"the bundle has {size / 1e6:.1f} MB, over {MAX_BUNDLE_BYTES / 1e6:.0f}; "
            "make gpt.width or decoder.initial_channels smaller in the recipe."
        )


def config_json(recipe: Recipe, num_text_tokens: int) -> dict[str, Any]:
    """Returns `config.json` as stock `XttsConfig` reads it."""
    gpt, codes, score = recipe.gpt, recipe.codes, recipe.score
    return {
        "model": "xtts",
        "model_args": {
            "gpt_batch_size": 1,
            "kv_cache": True,
            "gpt_max_audio_tokens": gpt.max_audio_tokens,
            "gpt_max_text_tokens": gpt.max_text_tokens,
            "gpt_max_prompt_tokens": 70,
            "gpt_layers": gpt.layers,
            "gpt_n_model_channels": gpt.width,
            "gpt_n_heads": gpt.heads,
            "gpt_number_text_tokens": num_text_tokens,
            "gpt_start_text_token": START,
            "gpt_stop_text_token": STOP,
            "gpt_num_audio_tokens": codes.num_codes + 2,
            "gpt_start_audio_token": codes.num_codes,
            "gpt_stop_audio_token": codes.num_codes + 1,
            "gpt_code_stride_len": codes.stride,
            "gpt_use_masking_gt_prompt_approach": True,
            "gpt_use_perceiver_resampler": True,
            "input_sample_rate": MEL_RATE,
            "output_sample_rate": AUDIO_RATE,
            "output_hop_length": 256,
            "decoder_input_dim": gpt.width,
            "d_vector_dim": SPEAKER_WIDTH,
            "cond_d_vector_in_each_upsampling_layer": True,
        },
        "audio": {
            "sample_rate": MEL_RATE,
            "output_sample_rate": AUDIO_RATE,
            "dvae_sample_rate": MEL_RATE,
        },
        "languages": [recipe.data.language],
        "temperature": score.temperature,
        "top_k": score.top_k,
        "top_p": score.top_p,
        "repetition_penalty": 1.0,
        "length_penalty": 1.0,
        "gpt_cond_len": 12,
        "gpt_cond_chunk_len": 4,
        "max_ref_len": 10,
        "sound_norm_refs": False,
    }


def _manifest(
    recipe: Recipe,
    corpus: Corpus,
    parts: BundleParts,
    num_parameters: int,
    made_by: str,
    notes: list[str],
    scores: dict[str, float],
    folder: Path,
) -> Manifest:
    speakers = [speaker for speaker in recipe.data.speakers if speaker.name in parts.voices]
    return Manifest(
        name=recipe.name,
        version=recipe.version,
        licence=recipe.licence,
        languages=[recipe.data.language],
        input_sample_rate=MEL_RATE,
        output_sample_rate=AUDIO_RATE,
        front_end="phonemes",
        sizes=ModelSizes(
            gpt_layers=recipe.gpt.layers,
            gpt_width=recipe.gpt.width,
            gpt_heads=recipe.gpt.heads,
            num_text_tokens=parts.num_text_tokens,
            num_audio_tokens=recipe.codes.num_codes + 2,
            num_parameters=num_parameters,
            decoder=DecoderSizes(**decoder_arguments(recipe.decoder)),
        ),
        # Recordings are up to a fifth longer, but few: such texts did not always come to an end.
        max_segment_chars=recipe.data.max_chars,
        default_voice=recipe.default_voice,
        voices={
            speaker.name: VoiceEntry(
                description=speaker.description,
                languages=[recipe.data.language],
                licence=recipe.licence,
            )
            for speaker in speakers
        },
        sampling=SamplingDefaults(
            temperature=recipe.score.temperature,
            top_k=recipe.score.top_k,
            top_p=recipe.score.top_p,
            repetition_penalty=1.0,
            guidance_scale=recipe.score.guidance_scale,
        ),
        data=[
            DataSource(
                name=speaker.name,
                source=speaker.source,
                licence=speaker.licence,
                hours=round(_hours(corpus, speaker.name), 2),
            )
            for speaker in recipe.data.speakers
        ],
        made_by=made_by,
        notes=notes,
        scores=scores,
        files=hash_files(folder),
    )


def _hours(corpus: Corpus, speaker: str) -> float:
    clips = corpus.select(held_out=False, speaker=speaker)
    return sum(clip.num_samples for clip in clips) / AUDIO_RATE / 3600
