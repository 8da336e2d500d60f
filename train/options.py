"""The trainer's own settings, from the same `.env` and environment as the service's.

Frozen like those of `app/settings.py`, which also knows the names of these keys, so that a
misspelt one is named whichever program starts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.errors import SettingsError
from app.settings import DEFAULT_ENV_FILE


class TrainingOptions(BaseSettings):
    """All keys of the trainer; the field name in capitals is the key in `.env`."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        use_attribute_docstrings=True,
        env_ignore_empty=True,
        env_file_encoding="utf-8",
    )

    data: Path = Path("data")
    """Folder of clips and texts to train on, or the table that lists them."""

    base_model: str = ""
    """Model that training starts from, named like DEFAULT_MODEL; empty: DEFAULT_MODEL."""

    train_language: str = "auto"
    """Language of clips whose data names none: a code such as `en`; `auto` goes by the texts."""

    max_train_samples: int | None = Field(default=None, ge=1)
    """Most clips to train on; always the same ones for the same number. Empty: all."""

    train_min_clip_s: float = Field(default=0.5, ge=0.33)
    """Shortest clip to train on, in seconds."""

    train_max_clip_s: float = Field(default=11.6, gt=0)
    """Longest clip to train on, in seconds; the model's own limit holds as well (XTTS-v2: 27)."""

    eval_share: float = Field(default=0.05, gt=0, le=0.5)
    """Share of the clips that are held out to judge the model by; takes of a text stay together."""

    train_cache_dir: Path = Path("train/cache")
    """Folder for what is computed of clips once: codes, mels, measurements."""

    data_workers: int = Field(default=0, ge=0)
    """Processes that read clips; 0: one for each processor this process may use."""

    train_output_dir: Path = Path("train/output")
    """Folder of a run: checkpoints, samples, reports, and the state that a resume goes on from."""

    train_runs_dir: Path = Path("train/runs")
    """Folder of the curves that TensorBoard shows."""

    num_epochs: int = Field(default=50, ge=1)
    """Times that every clip is learnt from. A finished run goes on when this is raised."""

    batch_tokens: int = Field(default=4096, ge=64)
    """Positions (text and audio tokens, padding included) in a batch; clips of like length meet."""

    accumulation: int = Field(default=1, ge=1)
    """Batches in one step of the optimizer; all processes share them."""

    learning_rate: float | None = Field(default=None, gt=0, lt=1)
    """Highest learning rate. Empty: 0.00001 for XTTS-v2's width, more for smaller models."""

    warmup: int = Field(default=20, ge=0)
    """Steps in which the learning rate rises to its highest; then it falls to the last step."""

    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Chance with which a layer's output is left out while training, against learning by heart."""

    optimizer: Literal["adamw", "adamw8bit"] = "adamw"
    """`adamw8bit`: 2 bytes a weight for running means, not 8; on NVIDIA GPUs by bitsandbytes."""

    lora_rank: int = Field(default=0, ge=0)
    """Rank of the adapters that are trained instead of all weights; 0: all weights."""

    grad_checkpointing: bool = False
    """True computes layers twice to need less memory; on by itself when one clip does not fit."""

    coqui_compatible_mask: bool = False
    """True masks as coqui's trainer does, faults included, for a comparison."""

    train_seed: int = Field(default=1, ge=0, lt=2**32)
    """Seed of the order of clips and of all that is drawn; the same run for the same seed."""

    save_every_min: float = Field(default=10, gt=0)
    """Minutes after which the state for a resume is saved again."""

    sample_text: str = ""
    """Sentence spoken after every epoch; empty: one in the language of the clips."""

    sample_seed: int = Field(default=7, ge=0, lt=2**53)
    """Seed of the samples and of the sentences that are scored; the same in every epoch."""

    score_sentences: int = Field(default=6, ge=0)
    """Held-out texts spoken and scored after every epoch; 0: no scores."""

    score_recogniser: Literal["auto", "pocketsphinx", "whisper", "none"] = "auto"
    """What listens to the scored sentences; `auto` takes one that is installed and knows them."""

    score_whisper_model: str = "small"
    """Model of faster-whisper: a size, which is fetched from the hub once, or a folder."""

    keep_checkpoints: int = Field(default=2, ge=1)
    """Newest epoch checkpoints that are kept; the best one is kept as well."""

    export_at_end: bool = True
    """Whether a finished run makes a bundle under MODELS_DIR, which the service then lists."""

    export_name: str = ""
    """Name of that bundle; empty: the name of the data folder with the next free number."""

    decoder_steps: int = Field(default=1000, ge=1)
    """Steps of `python -m train decoder`. A finished run goes on when this is raised."""

    decoder_adversary_steps: int = Field(default=0, ge=0)
    """The last so many of them have an adversary beside the spectral distances."""

    decoder_batch: int = Field(default=8, ge=1)
    """Segments that the decoder learns from in a step."""

    decoder_segment_s: float = Field(default=0.4, ge=0.2, le=5)
    """Length of a segment, in seconds; memory grows with it and with DECODER_BATCH."""

    decoder_rate: float = Field(default=1e-4, gt=0, lt=1)
    """Highest learning rate of the decoder; it falls over the second half of the steps."""

    decoder_eval_every: int = Field(default=100, ge=1)
    """Steps after which held-out clips judge the decoder again."""

    tensorboard: bool = True
    """Whether a TensorBoard is started for the time of the run."""

    tensorboard_port: int = Field(default=6006, ge=0, le=65535)
    """Port of that TensorBoard, on this machine only; 0 takes a free one."""


def load_options(env_file: Path | None = None, **overrides: Any) -> TrainingOptions:
    """Reads `.env` and the environment and returns the frozen options.

    Misspelt keys are for `app.settings.load_settings` to find, which every command calls.

    Args:
        env_file: the file to read; `.env` in the working folder if None. It may be absent.
        **overrides: field values that win over both (command-line options).

    Raises:
        SettingsError: values that do not fit, all named at once.
    """
    try:
        return TrainingOptions(
            _env_file=env_file or DEFAULT_ENV_FILE,  # type: ignore[call-arg]
            **overrides,
        )
    except ValidationError as error:
        faults = (
            f"{str(item['loc'][0]).upper()}={item.get('input')!r} does not fit: {item['msg']}; "
            "see docs/settings.md."
            for item in error.errors()
        )
        raise SettingsError(" ".join(faults)) from error
