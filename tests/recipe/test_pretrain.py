"""The recipe of the built-in voice, end to end at toy size, by its command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from app.models.bundles import read_folder
from app.models.loading import load_model
from app.settings import Settings
from app.synthesis.opening import open_synthesizer
from train.checkpoints import list_checkpoints
from train.cli import main
from train.commands.pretrain import STAGE_NAMES
from train.pretrain.codes import dvae_arguments
from train.pretrain.recipe import read_recipe

HERE = Path(__file__).parent
TOY = HERE / "toy"


@pytest.fixture(scope="module")
def work_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    assert run(folder) == 0
    return folder


def run(folder: Path, *more: str) -> int:
    return main(
        [
            *("pretrain", str(TOY), "--data-dir", str(HERE / "data")),
            *("--work-dir", str(folder), "--threads", "1", *more),
        ]
    )


def test_every_stage_leaves_its_results(work_dir: Path) -> None:
    results = json.loads((work_dir / "report.json").read_text())
    for stage in ("codes", "gpt", "decoder_mel", "decoder"):
        assert results[stage]["step"] == results[stage]["steps"], stage
    assert results["data"]["clips"]["kathleen"] == {"train": 9, "held_out": 3}
    assert "## decoder" in (work_dir / "report.md").read_text()
    scores = results["scores"]["kathleen"]
    assert scores["sentences"] == 2
    assert 0 <= scores["recording_wer"] < 1
    assert scores["copy_mel"] > 0
    assert scores["left_out"] == {"speaker_nearest": "no recordings of another speaker were given"}
    manifest = read_folder(work_dir / "bundle", "toy").manifest
    assert manifest is not None
    assert manifest.scores["sentences_pocketsphinx_kathleen"] == 2


def test_recordings_are_played_at_other_speeds_for_training_alone(work_dir: Path) -> None:
    from train.pretrain.corpus import Corpus

    corpus = Corpus(work_dir / "data")
    plain = {clip.name: clip for clip in corpus.select(held_out=False)}
    altered = [c for c in corpus.select(held_out=False, altered=True) if c.speed != 1.0]
    assert len(altered) == len(plain) == 9
    assert corpus.select(held_out=True, altered=True) == corpus.select(held_out=True)
    for clip in altered:
        source = plain[clip.name.removesuffix("_x1.05")]
        assert clip.num_samples == pytest.approx(source.num_samples / 1.05, rel=0.02)
        assert clip.times == pytest.approx([time / 1.05 for time in source.times], abs=0.002)


def test_the_bundle_loads_and_speaks(work_dir: Path) -> None:
    bundle = read_folder(work_dir / "bundle", "toy")
    assert bundle.manifest is not None
    assert bundle.manifest.front_end == "phonemes"
    assert bundle.manifest.sampling.guidance_scale == 1.5
    model = load_model(bundle)
    assert set(model.voices) == {"kathleen"}
    ids = model.tokenizer.encode("How much was it.", "en")
    assert model.tokenizer.unknown_id not in ids

    settings = Settings(default_model=str(work_dir / "bundle"), force_cpu=True)
    synthesizer = open_synthesizer(settings, lambda *_words: None)
    assert synthesizer.info.default_voice == "kathleen"


def test_training_and_the_service_read_a_text_alike(work_dir: Path) -> None:
    from app.text.phonemes import phonemize
    from train.pretrain.vocabulary import PhonemeVocabulary

    model = load_model(read_folder(work_dir / "bundle", "toy"))
    vocabulary = PhonemeVocabulary(work_dir / "vocab.json", "en")
    for text in ("How old are you, mother.", "He did not rush in.", "Keep an eye on him."):
        assert model.tokenizer.encode(text, "en") == vocabulary.encode(phonemize(text, "en"))


def test_stock_coqui_loads_the_weights(work_dir: Path) -> None:
    from safetensors.torch import load_file
    from TTS.tts.layers.xtts.dvae import DiscreteVAE
    from TTS.tts.layers.xtts.hifigan_decoder import HifiDecoder

    from train.pretrain.gpt_model import build_gpt

    recipe = read_recipe(TOY)
    state = load_file(work_dir / "bundle" / "model.safetensors")
    config = json.loads((work_dir / "bundle" / "config.json").read_text())["model_args"]
    gpt = build_gpt(recipe.gpt, recipe.codes, config["gpt_number_text_tokens"])
    decoder = HifiDecoder(
        ar_mel_length_compression=config["gpt_code_stride_len"],
        decoder_input_dim=config["decoder_input_dim"],
        **json.loads((work_dir / "bundle" / "decoder.json").read_text()),
    )
    for prefix, module in (("gpt.", gpt), ("hifigan_decoder.", decoder)):
        own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        module.load_state_dict(own, strict=True)
    dvae = DiscreteVAE(**dvae_arguments(recipe.codes))
    dvae.load_state_dict(load_file(work_dir / "bundle" / "training" / "dvae.safetensors"))


def test_a_second_run_changes_nothing(work_dir: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in work_dir.glob("data/*")}
    weights = (work_dir / "bundle" / "model.safetensors").read_bytes()
    assert run(work_dir) == 0
    assert {path: path.stat().st_mtime_ns for path in work_dir.glob("data/*")} == before
    assert (work_dir / "bundle" / "model.safetensors").read_bytes() == weights


def test_a_stopped_stage_ends_like_an_unbroken_one(work_dir: Path, tmp_path: Path) -> None:
    from train.loop import LoopOptions, fit
    from train.pretrain.pipeline import open_workspace
    from train.pretrain.stages import gpt_job

    work = open_workspace(TOY, data_dir=HERE / "data", folder=work_dir)

    def train(folder: Path, stops: tuple[int, ...]) -> dict[str, torch.Tensor]:
        options = LoopOptions(steps=6, rate=1e-3, warmup=2, average=0.9)
        for stop in (*stops, 0):
            job = gpt_job(work)
            seen = iter(range(1, 100))
            fit(job, folder, options, work.accelerator, lambda s=stop, n=seen: next(n) == s)
        return job.module.state_dict()

    whole = train(tmp_path / "whole", ())
    broken = train(tmp_path / "broken", (2, 1))
    assert list_checkpoints(tmp_path / "broken")[0].name.startswith("step-00000006")
    for name, value in whole.items():
        assert torch.equal(value, broken[name]), name


def test_some_rows_are_trained_without_their_text(work_dir: Path) -> None:
    from train.pretrain.pipeline import open_workspace
    from train.pretrain.stages import training_rows

    work = open_workspace(TOY, data_dir=HERE / "data", folder=work_dir)
    source = training_rows(work)
    lengths = torch.cat([source.draw(step).text_lengths for step in range(40)])
    mute = float((lengths == len(("START", "STOP"))).float().mean())
    assert 0.15 < mute < 0.45
    again = torch.cat([source.draw(step).text_lengths for step in range(40)])
    assert torch.equal(lengths, again)


def test_stages_stand_in_the_order_of_the_command() -> None:
    from train.pretrain.stages import STAGES

    assert (*STAGES, "report") == STAGE_NAMES


def test_a_stage_that_came_too_early_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "--stage", "gpt") == 1
    assert "--stage data" in capsys.readouterr().err


def test_a_bundle_stands_in_for_lost_checkpoints(work_dir: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    bundle = work_dir / "bundle"
    assert run(tmp_path, "--start-from", str(bundle), "--stage", "data", "--stage", "codes") == 0
    with np.load(work_dir / "codes.npz") as old, np.load(tmp_path / "codes.npz") as new:
        same = [np.mean(old[name] == new[name]) for name in old.files]
    assert np.mean(same) > 0.95  # half precision moves a code now and then
    assert (tmp_path / "vocab.json").read_bytes() == (bundle / "vocab.json").read_bytes()

    assert run(tmp_path, "--start-from", str(bundle), "--stage", "bundle") == 1  # no GPT yet
    stages = ("gpt", "latents", "decoder", "bundle")
    more = [part for stage in stages for part in ("--stage", stage)]
    assert run(tmp_path, "--start-from", str(bundle), *more) == 0
    before, after = (load_file(f / "model.safetensors") for f in (bundle, tmp_path / "bundle"))
    name = "gpt.mel_head.weight"
    moved = (before[name].float() - after[name].float()).abs().max()
    assert 0 < moved < 0.05


def test_codes_go_on_from_a_bundle_and_its_gpt_learns_them(work_dir: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    text = (TOY / "recipe.toml").read_text(encoding="utf-8")
    recipe, folder = tmp_path / "recipe", tmp_path / "work"
    recipe.mkdir()
    longer = text.replace("[codes]\n", "[codes]\nsteps_from_bundle = 3\n")
    (recipe / "recipe.toml").write_text(longer, encoding="utf-8")
    bundle = work_dir / "bundle"
    stages = ("data", "codes", "gpt", "latents", "decoder", "bundle")
    found = main(
        [
            *("pretrain", str(recipe), "--data-dir", str(HERE / "data"), "--threads", "1"),
            *("--work-dir", str(folder), "--start-from", str(bundle)),
            *(part for stage in stages for part in ("--stage", stage)),
        ]
    )
    assert found == 0
    results = json.loads((folder / "results.json").read_text())
    assert results["codes"]["step"] == results["codes"]["steps"] == 3
    name = "codebook.embed"
    old, new = (
        load_file(f / "training" / "dvae.safetensors")[name].float()
        for f in (bundle, folder / "bundle")
    )
    assert 0 < (old - new).norm() < 0.5 * old.norm(), "it starts from the bundle's codebook"
