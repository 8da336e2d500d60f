"""Guards the voice that ships: a bundle that stops being understood fails here.

Eight of the hundred held-out sentences; a figure of so few swings by about 0.1, which the margin
allows for. The full figures are in the bundle's manifest and in docs/voice.md.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from app.models.bundles import builtin_folder
from app.models.manifest import read_manifest
from train.evaluation import evaluate, read_sentences
from train.judging.speaking import InThisProcess
from train.transcribe import PocketSphinx

HELD_OUT = Path(__file__).parents[2] / "recipes" / "builtin" / "held_out.csv"
NUM_SENTENCES = 8
MARGIN = 0.15


@pytest.mark.slow
def test_the_shipped_voice_is_understood_as_well_as_its_manifest_says() -> None:
    manifest = read_manifest(builtin_folder())
    voice = manifest.default_voice
    claimed = manifest.scores[f"character_error_rate_pocketsphinx_{voice}"]
    sentences = read_sentences(HELD_OUT)[:NUM_SENTENCES]
    evaluation = evaluate(InThisProcess("builtin", voice), sentences, PocketSphinx())
    scores = evaluation.scores
    assert scores.cer <= claimed + MARGIN, [result.heard for result in evaluation.results]
    assert scores.silent == scores.refused == 0
    assert 0.7 < scores.duration_ratio < 1.4


def test_held_out_sentences_are_a_hundred_prompts_of_their_own() -> None:
    sentences = read_sentences(HELD_OUT)
    assert len({sentence.name.split("_")[1] for sentence in sentences}) == 100
    assert len({sentence.text for sentence in sentences}) == len(sentences)
    assert all(0.5 < sentence.recorded_s < 7 for sentence in sentences)
