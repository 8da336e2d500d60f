"""The stages of a recipe, in their order. Each resumes, notes what it found and knows its gate.

A stage that is done is skipped: its files are there. Training stages are done at their last step;
more steps in the recipe make them go on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from TTS.vocoder.models.hifigan_generator import HifiganGenerator

from app.engine.types import Conditioning
from app.errors import OutputError
from app.files import write_atomic
from train.checkpoints import list_checkpoints
from train.decoder.adversary import Adversary
from train.decoder.job import DecoderJob, SegmentPlan
from train.loop import Job, LoopOptions, Outcome, fit
from train.mels import HOP
from train.pretrain.bundle import BundleParts, write_bundle
from train.pretrain.codes import (
    CodesJob,
    encode_clips,
    save_codes,
)
from train.pretrain.corpus import AUDIO_RATE, corpus_exists
from train.pretrain.data import prepare
from train.pretrain.decoder import CorpusClips, FeatureSource, MelBlocks
from train.pretrain.gpt import SLOW_PARTS, GptJob, text_gap
from train.pretrain.gpt_batch import Row, RowSource
from train.pretrain.gpt_model import PackedGpt
from train.pretrain.latents import StoredLatents, latents_step, write_latents
from train.pretrain.regraft import fit_latent_map, regraft
from train.pretrain.roundtrip import roundtrip_errors
from train.pretrain.speakers import fit_encoder
from train.pretrain.trained import (
    bundle_dvae,
    load_dvae,
    load_generator,
    load_gpt,
    new_generator,
    new_gpt,
    stage_state,
)
from train.pretrain.vocabulary import write_vocabulary
from train.pretrain.vocoder import build_generator, code_scales, speaker_vectors
from train.pretrain.workspace import Workspace

_DECODER_BETAS = (0.8, 0.99)  # HiFi-GAN's
_DECODER_CLIP = 10.0
_PROMPT_FRAMES = 345  # 4 s, one chunk of stock's conditioning
_PROMPT_CHUNKS = 8
_MAPPED_CLIPS = 120
_log = logging.getLogger(__name__)


def run_data(work: Workspace) -> None:
    """Prepares all speech and the vocabulary."""
    folder = work.folder / "data"
    if not corpus_exists(folder):
        started = time.monotonic()
        prepare(work.recipe, work.data_dir, folder, work.workers)
        work.note("data", seconds=round(time.monotonic() - started))
    if work.start_from is not None and not work.vocabulary_path.is_file():
        write_atomic(work.vocabulary_path, (work.start_from / "vocab.json").read_bytes())
    if not work.vocabulary_path.is_file():
        phonemes = [clip.phonemes for clip in work.corpus.clips]
        write_vocabulary(work.vocabulary_path, phonemes, work.recipe.data.language)
    work.note(
        "data",
        clips={
            name: {
                "train": len(work.corpus.select(held_out=False, speaker=name)),
                "held_out": len(work.corpus.select(held_out=True, speaker=name)),
            }
            for name in work.corpus.speakers
        },
        tokens=work.vocabulary.num_tokens,
    )


def run_codes(work: Workspace) -> None:
    """Trains the DVAE and encodes every clip.

    Raises:
        OutputError: what the codes hold is not understood (gate `roundtrip_wer`).
    """
    part = work.recipe.codes
    if work.codes_path.is_file():
        return
    trained = None
    if work.start_from is not None:
        trained = bundle_dvae(work)
        if not part.steps_from_bundle:
            save_codes(work.codes_path, encode_clips(trained, work.corpus, work.mel_stats))
            return
        part = part.model_copy(update={"steps": part.steps_from_bundle})
    job = CodesJob(work.corpus, work.mel_stats, part, work.recipe.seed, trained)
    options = LoopOptions(
        steps=part.steps,
        rate=part.rate,
        betas=(0.9, 0.99),
        weight_decay=0.0,
        seed=work.recipe.seed,
        budget_s=work.recipe.budget_min.codes * 60,
    )
    if not _train(work, "codes", job, options).finished:
        return
    dvae = job.module.dvae
    errors = roundtrip_errors(work, dvae)
    work.note("codes", roundtrip=errors)
    _gate(work, "roundtrip_wer", max(entry["wer"] for entry in errors.values()) if errors else 0.0)
    codes = encode_clips(dvae, work.corpus, work.mel_stats)
    used = np.bincount(np.concatenate(list(codes.values())), minlength=part.num_codes)
    shares = used[used > 0] / used.sum()
    perplexity = float(np.exp(-(shares * np.log(shares)).sum()))
    work.note("codes", used=int((used > 0).sum()), perplexity=round(perplexity))
    save_codes(work.codes_path, codes)


def run_gpt(work: Workspace) -> None:
    """Trains the GPT and measures how much it listens to its text.

    Raises:
        OutputError: right and wrong text differ too little (gate `text_gap`).
    """
    part = work.recipe.gpt
    job = gpt_job(work)
    options = LoopOptions(
        steps=part.steps,
        rate=part.rate if work.start_from is None else part.rate_from_bundle,
        warmup=part.warmup,
        flat=part.flat,
        average=part.average,
        slow=SLOW_PARTS,
        seed=work.recipe.seed,
        budget_s=work.recipe.budget_min.gpt * 60,
    )
    outcome = _train(work, "gpt", job, options)
    module = load_gpt(work)
    held_out = _rows(work, held_out=True)
    gaps = {
        name: text_gap(module, held_out, name, work.recipe.seed) for name in work.corpus.speakers
    }
    work.note(
        "gpt",
        held_out={
            name: {"right": round(a, 3), "wrong": round(b, 3)} for name, (a, b) in gaps.items()
        },
    )
    if outcome.finished:
        _gate(work, "text_gap", min(wrong - right for right, wrong in gaps.values()), at_least=True)


def run_decoder_mel(work: Workspace) -> None:
    """Trains a generator on the true mel blocks; needs no GPT, so it can run beside it."""
    part = work.recipe.decoder
    if work.start_from is not None:
        return  # the bundle's generator is past this stage
    torch.manual_seed(work.recipe.seed)
    generator = build_generator(part, 80 * work.recipe.frames_per_code)
    source = MelBlocks(_rows(work, held_out=False).mel_blocks)
    job = _decoder_job(work, generator, source)
    options = LoopOptions(
        steps=part.mel_steps,
        rate=part.rate,
        flat=0.6,
        betas=_DECODER_BETAS,
        clip=_DECODER_CLIP,
        seed=work.recipe.seed,
        budget_s=work.recipe.budget_min.decoder_mel * 60,
    )
    _train(work, "decoder_mel", job, options)


def run_latents(work: Workspace) -> None:
    """Computes the latents that the decoder learns from; again where the GPT went on since."""
    folder = work.folder / "latents"
    step = int(stage_state(work, "gpt")["step"])
    if latents_step(folder) == step:
        return
    source = _rows(work, held_out=False)
    write_latents(folder, load_gpt(work), source, _decoder_rows(work, source), step)


def run_decoder(work: Workspace) -> None:
    """Trains the generator on latents, from where the mel stage ended."""
    part = work.recipe.decoder
    features = StoredLatents.open(work.folder / "latents", work.recipe.frames_per_code)
    generator = new_generator(work)
    if work.start_from is not None and not list_checkpoints(work.folder / "decoder"):
        _regraft(work, generator)
    adversary = None
    if part.adversary_steps:
        adversary = Adversary(
            work.accelerator, work.recipe.seed, part.adversary_channels, part.adversary_rate
        )
    job = _decoder_job(work, generator, features, set(features.places), adversary)
    options = LoopOptions(
        steps=part.latent_steps,
        rate=part.rate / 2,
        flat=0.5,
        betas=_DECODER_BETAS,
        clip=_DECODER_CLIP,
        seed=work.recipe.seed + 1,
        budget_s=work.recipe.budget_min.decoder * 60,
    )
    _train(work, "decoder", job, options)


def _regraft(work: Workspace, generator: HifiganGenerator) -> None:
    """Fits the bundle's generator to how far latents and codes have moved since."""
    source = _rows(work, held_out=False)
    rows = _decoder_rows(work, source)
    rows = rows[:: max(1, len(rows) // _MAPPED_CLIPS)]
    clips = [row.clip for row in rows]
    codes = encode_clips(bundle_dvae(work), work.corpus, work.mel_stats, clips)
    old_rows = [replace(row, codes=codes[row.clip.name].astype(np.int64)) for row in rows]
    old, new = (new_gpt(work), old_rows), (load_gpt(work), rows)
    regraft(generator, *fit_latent_map(new, old, source, work.recipe.seed))


def run_bundle(work: Workspace) -> None:
    """Fits the speaker encoder and writes the bundle from the newest weights of all stages."""
    recipe, corpus = work.recipe, work.corpus
    vectors = speaker_vectors(len(corpus.speakers), recipe.seed)
    encoder, found = fit_encoder(corpus, vectors, recipe.seed)
    work.note("speakers", held_out_found=found)
    module = load_gpt(work)
    parts = BundleParts(
        gpt=module.gpt,
        mel_out=module.mel_out,
        generator=load_generator(work),
        encoder=encoder,
        dvae=load_dvae(work),
        mel_stats=work.mel_stats,
        voices=_voices(work, module, vectors),
        vocabulary_path=work.vocabulary_path,
        num_text_tokens=work.vocabulary.num_tokens,
    )
    minutes = {
        stage: round(float(values["trained_s"]) / 60)
        for stage, values in work.results().items()
        if "trained_s" in values
    }
    spent = ", ".join(f"{stage} {count} min" for stage, count in minutes.items())
    write_bundle(
        work.bundle_path,
        recipe,
        corpus,
        parts,
        made_by=f"python -m train pretrain {work.recipe_dir} (training: {spent})",
        notes=recipe.notes,
        scores={},
    )


STAGES: dict[str, Callable[[Workspace], None]] = {
    "data": run_data,
    "codes": run_codes,
    "gpt": run_gpt,
    "decoder_mel": run_decoder_mel,
    "latents": run_latents,
    "decoder": run_decoder,
    "bundle": run_bundle,
}


def gpt_job(work: Workspace) -> GptJob:
    """Returns the untrained GPT with its batches."""
    source = training_rows(work)
    fresh = work.start_from is None
    return GptJob(new_gpt(work), source, work.recipe.gpt, work.recipe.seed, fresh=fresh)


def training_rows(work: Workspace) -> RowSource:
    """Returns what the GPT learns from: every clip, at every speed."""
    return _rows(work, held_out=False, altered=True)


def _rows(work: Workspace, *, held_out: bool, altered: bool = False) -> RowSource:
    clips = work.corpus.select(held_out=held_out, altered=altered)
    return RowSource(work.recipe, work.corpus, work.codes, work.vocabulary, work.mel_stats, clips)


def _decoder_rows(work: Workspace, source: RowSource) -> list[Row]:
    """Returns the rows the decoder learns from: the same number of clips for each speaker."""
    limit = work.recipe.decoder.clips_per_speaker
    chosen = []
    for index in range(len(work.corpus.speakers)):
        own = [row for row in source.rows if row.speaker == index]
        chosen += own[:: max(1, -(-len(own) // limit))]
    return chosen


def _decoder_job(
    work: Workspace,
    generator: torch.nn.Module,
    source: FeatureSource,
    names: set[str] | None = None,
    adversary: Adversary | None = None,
) -> DecoderJob:
    recipe, part = work.recipe, work.recipe.decoder
    clips = work.corpus.select(held_out=False)
    corpus_clips = CorpusClips(
        work.corpus,
        [clip for clip in clips if names is None or clip.name in names],
        (part.segment_codes + 1) * recipe.frames_per_code,
        work.weights,
        source,
        speaker_vectors(len(work.corpus.speakers), recipe.seed),
    )
    plan = SegmentPlan(
        batch=part.batch,
        codes=part.segment_codes,
        scales=code_scales(recipe.frames_per_code),
        hop=HOP,
        sample_rate=AUDIO_RATE,
        seed=recipe.seed,
        adversary_from=part.latent_steps - part.adversary_steps,
        adversary_weight=part.adversary_weight,
    )
    return DecoderJob(generator, corpus_clips, plan, adversary)


@torch.no_grad()
def _voices(work: Workspace, module: PackedGpt, vectors: Tensor) -> dict[str, Conditioning]:
    """Returns each speaker's stored voice: conditioning latents of chunks of 4 s, averaged."""
    source = _rows(work, held_out=False)
    rng = np.random.default_rng(work.recipe.seed)
    chunks = [module.prompt(source.style_mels(rng, _PROMPT_FRAMES)) for _ in range(_PROMPT_CHUNKS)]
    prompts = torch.stack(chunks).mean(0)
    return {
        name: Conditioning(prompts[i : i + 1], vectors[i][None, :, None])
        for i, name in enumerate(work.corpus.speakers)
    }


def _train(work: Workspace, stage: str, job: Job, options: LoopOptions) -> Outcome:
    work.accelerator.init_trackers(stage)
    outcome = fit(job, work.folder / stage, options, work.accelerator)
    work.note(
        stage,
        step=outcome.step,
        steps=options.steps,
        trained_s=round(outcome.trained_s),
        losses={name: round(value, 4) for name, value in outcome.losses.items()},
    )
    _log.info("%s: step %d of %d (%s)", stage, outcome.step, options.steps, outcome.reason)
    return outcome


def _gate(work: Workspace, name: str, value: float, *, at_least: bool = False) -> None:
    """Raises OutputError where a figure is on the wrong side of the recipe's gate."""
    limit = float(getattr(work.recipe.gates, name))
    passed = value >= limit if at_least else value <= limit
    if passed:
        return
    message = (
        f"gate {name}: {value:.2f}, and the recipe asks for "
        f"{'at least' if at_least else 'at most'} {limit:.2f}; train the stage for more steps, "
        "or set gates.ungated to go on."
    )
    if not work.recipe.gates.ungated:
        raise OutputError(message)
    _log.warning("%s", message)
