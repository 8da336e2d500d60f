"""Where a recipe's run lies on disk, and what its stages found out so far.

The folder can be large (6 hours of speech: 2 GB) and is remade from the recipe when it is lost.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import Tensor

from app.errors import UnavailableError
from app.files import write_atomic
from train.pretrain.codes import Codes, load_codes, measure_mel_stats
from train.pretrain.corpus import Corpus
from train.pretrain.recipe import Recipe
from train.pretrain.vocabulary import PhonemeVocabulary

_RESULTS = "results.json"


@dataclass
class Workspace:
    """One run of a recipe."""

    recipe: Recipe
    recipe_dir: Path
    data_dir: Path
    folder: Path
    accelerator: Accelerator
    workers: int
    start_from: Path | None = None
    """A bundle of this recipe that stages without checkpoints start from."""

    @cached_property
    def corpus(self) -> Corpus:
        """The prepared speech.

        Raises:
            UnavailableError: the data stage has not finished.
        """
        if not (self.folder / "data" / "clips.json").is_file():
            raise UnavailableError("the data stage has not run here; run it first: --stage data.")
        return Corpus(self.folder / "data")

    @cached_property
    def mel_stats(self) -> Tensor:
        """What mels are divided by, [80]; measured once, then fixed."""
        path = self.folder / "mel_stats.json"
        if not path.is_file():
            if self.start_from is not None:
                stats = load_file(self.start_from / "model.safetensors")["mel_stats"]
            else:
                stats = measure_mel_stats(self.corpus, self.recipe.codes.mel_floor)
            write_atomic(path, json.dumps([round(float(v), 6) for v in stats]).encode())
        return torch.tensor(json.loads(path.read_text(encoding="utf-8")))

    @property
    def vocabulary(self) -> PhonemeVocabulary:
        """The text vocabulary that the data stage wrote."""
        return PhonemeVocabulary(self.vocabulary_path, self.recipe.data.language)

    @property
    def vocabulary_path(self) -> Path:
        """`vocab.json`."""
        return self.folder / "vocab.json"

    @property
    def bundle_path(self) -> Path:
        """Folder of the finished bundle."""
        return self.folder / "bundle"

    @property
    def codes_path(self) -> Path:
        """Codes of every clip."""
        return self.folder / "codes.npz"

    @property
    def codes(self) -> Codes:
        """Codes of every clip, by name.

        Raises:
            UnavailableError: the codes stage has not finished.
        """
        if not self.codes_path.is_file():
            raise UnavailableError("there are no codes yet; run the stage: --stage codes.")
        return load_codes(self.codes_path)

    @property
    def weights(self) -> dict[str, float]:
        """How often each speaker's clips are drawn."""
        return {speaker.name: speaker.weight for speaker in self.recipe.data.speakers}

    def results(self) -> dict[str, dict[str, Any]]:
        """What each stage has noted, by stage."""
        path = self.folder / _RESULTS
        if not path.is_file():
            return {}
        found: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        return found

    def note(self, stage: str, **values: Any) -> None:
        """Adds to what a stage has noted; the first process alone writes."""
        if not self.accelerator.is_main_process:
            return
        results = self.results()
        results.setdefault(stage, {}).update(values)
        content = json.dumps(results, indent=2, ensure_ascii=False)
        write_atomic(self.folder / _RESULTS, content.encode())
