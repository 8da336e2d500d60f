"""Curves and spectrograms as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from train.evaluation import Evaluation, Sentence, listen, summarise
from train.judging.pictures import draw_pairs
from train.judging.recordings import RATE, Recordings
from train.pretrain.curves import draw_curves, read_curves

_PNG = b"\x89PNG\r\n"
_WRITER: Any = SummaryWriter


def write_run(folder: Path, first: int, values: list[float]) -> None:
    writer = _WRITER(str(folder), filename_suffix=f".{first}")
    for step, value in enumerate(values, first):
        writer.add_scalar("code", value, step)
        writer.add_scalar("rate", 0.1, step)
    writer.close()


def test_a_resumed_run_goes_on_in_its_curve(tmp_path: Path) -> None:
    write_run(tmp_path / "gpt", 0, [5.0, 4.0, 3.0])
    write_run(tmp_path / "gpt", 2, [3.5, 2.5])
    assert read_curves(tmp_path / "gpt") == {"code": [(0, 5.0), (1, 4.0), (2, 3.5), (3, 2.5)]}


def test_each_stage_with_curves_has_a_picture(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "gpt", 0, [5.0, 4.0])
    (tmp_path / "runs" / "codes").mkdir()
    made = draw_curves(tmp_path / "runs", tmp_path / "curves")
    assert [path.name for path in made] == ["gpt.png"]
    assert made[0].read_bytes().startswith(_PNG)
    assert draw_curves(tmp_path / "none", tmp_path / "more") == []


class Deaf:
    """Hears nothing."""

    def transcribe(self, samples: Any, sample_rate: int) -> str:
        return ""


def test_a_sentence_is_drawn_beside_its_recording(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).uniform(-0.1, 0.1, RATE).astype(np.float32)
    sentences = [Sentence(name, "One.", 1.0) for name in ("a", "b", "c")]
    spoken = [noise, None, noise]
    results = [listen(s, x, RATE, Deaf()) for s, x in zip(sentences, spoken, strict=True)]
    evaluation = Evaluation(summarise(results, sentences, "ann", 1.0), results, spoken, RATE)
    made = draw_pairs(tmp_path, evaluation, Recordings({"a": noise}))
    assert [path.name for path in made] == ["a.png", "c.png"]
    assert all(path.read_bytes().startswith(_PNG) for path in made)
    assert made[0].stat().st_size > made[1].stat().st_size
