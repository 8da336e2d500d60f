"""Recordings as a model was given them: cut, at one peak, or as they are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from clip_folders import LONG_CLIP, base_model, samples_of
from random_dvae import random_dvae
from toy import toy_folder

from app.audio.clip import Clip
from app.errors import ModelFileError
from app.models.bundles import builtin_folder, read_folder
from train.data.dvae import CodeMaker
from train.data.features import FeatureMaker, load_recording
from train.data.levelling import LEVELLING_FILE, Levelling, levelled, levelling_of
from train.pretrain.data import LEVELLING

CPU = torch.device("cpu")


def test_a_recording_is_cut_to_its_speech_and_levelled() -> None:
    rate = 22050
    speech = 0.1 * np.sin(np.arange(rate) / 10).astype(np.float32)
    silence = np.zeros(rate, np.float32)
    made = Levelling()(np.concatenate((silence, speech, silence)), rate)
    assert len(made) == pytest.approx(len(speech) + 2 * 0.05 * rate, abs=480)
    assert abs(made).max() == pytest.approx(0.6)
    assert len(Levelling()(silence, rate)) == len(silence)  # nothing to cut to


def test_how_loud_or_padded_it_was_makes_no_difference() -> None:
    samples, rate = samples_of(LONG_CLIP)
    padded = np.concatenate((np.zeros(rate, np.float32), 0.2 * samples))
    one, other = Levelling()(samples, rate), Levelling()(padded, rate)
    assert abs(len(one) - len(other)) <= 240
    assert abs(one).max() == pytest.approx(abs(other).max())


def test_the_builtin_model_says_how_it_was_trained_and_a_stock_one_nothing() -> None:
    assert levelling_of(read_folder(builtin_folder(), "builtin")) == LEVELLING
    stock = read_folder(toy_folder(), "toy")
    assert levelling_of(stock) is None
    clip = Clip(np.ones(10, np.float32), 22050)
    assert levelled(clip, None) is clip


def test_a_file_that_says_something_else_is_named(tmp_path: Path) -> None:
    bundle = replace(read_folder(toy_folder(), "toy"), folder=tmp_path)
    (tmp_path / "training").mkdir()
    for content in ({"loudness": 3}, {"peak": "high"}):
        (tmp_path / LEVELLING_FILE).write_text(json.dumps(content))
        with pytest.raises(ModelFileError, match=r"recordings\.json"):
            levelling_of(bundle)


def test_what_is_learnt_of_a_clip_does_not_depend_on_its_level() -> None:
    base = base_model()
    codes = CodeMaker(random_dvae(), torch.full((80,), 2.0), base.stride, CPU)
    samples = load_recording(LONG_CLIP).samples
    quiet = samples * np.float32(0.1)
    maker = FeatureMaker(codes, CPU, "device", Levelling())
    one, other = maker(samples), maker(quiet)
    np.testing.assert_allclose(one.code_mel, other.code_mel, atol=2e-2)
    assert (one.codes == other.codes).mean() > 0.98
    assert one.num_samples < len(samples)
    plain = FeatureMaker(codes, CPU, "device")
    assert plain(samples).num_samples == len(samples)
    assert (plain(samples).codes != plain(quiet).codes).any()
