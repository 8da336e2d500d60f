"""Settings of the service, from `.env` and the environment, read once at the start.

The environment wins over `.env`. The object is frozen: what the program was started with is what
it runs with. Knows nothing of devices or models; it only says what the user asked for. The
trainer's own keys are in `train/options.py`.
"""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Iterable
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, Literal

from dotenv import dotenv_values
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from pydantic_settings import SettingsError as PydanticSettingsError

from app.errors import SettingsError

#: Keys that compose, coqui or the hub read from the same `.env`; known, though not ours.
FOREIGN_KEYS = frozenset(
    {"API_BIND", "BASE_IMAGE", "HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE", "TORCH", "TZ"}
)

#: Keys of the trainer (`train/options.py`), which shares `.env`; a test holds the two equal.
TRAINING_KEYS = frozenset(
    {
        *("ACCUMULATION", "BATCH_TOKENS", "COQUI_COMPATIBLE_MASK", "DROPOUT"),
        *("GRAD_CHECKPOINTING", "LEARNING_RATE", "LORA_RANK", "NUM_EPOCHS", "OPTIMIZER"),
        *("SAVE_EVERY_MIN", "TRAIN_OUTPUT_DIR", "TRAIN_RUNS_DIR", "TRAIN_SEED", "WARMUP"),
        *("BASE_MODEL", "DATA", "DATA_WORKERS", "EVAL_SHARE", "MAX_TRAIN_SAMPLES"),
        *("TRAIN_CACHE_DIR", "TRAIN_LANGUAGE", "TRAIN_MAX_CLIP_S", "TRAIN_MIN_CLIP_S"),
        *("SAMPLE_TEXT", "SAMPLE_SEED", "SCORE_SENTENCES", "SCORE_RECOGNISER"),
        *("SCORE_WHISPER_MODEL", "KEEP_CHECKPOINTS", "EXPORT_AT_END", "EXPORT_NAME"),
        *("DECODER_STEPS", "DECODER_ADVERSARY_STEPS", "DECODER_BATCH", "DECODER_SEGMENT_S"),
        *("DECODER_RATE", "DECODER_EVAL_EVERY", "TENSORBOARD", "TENSORBOARD_PORT"),
    }
)

DEFAULT_ENV_FILE = Path(".env")
# difflib ratios from which a key counts as a misspelling of one of ours
_NEAR_IN_FILE = 0.75
_NEAR_IN_ENVIRONMENT = 0.85
_LONG_KEY = 8

_log = logging.getLogger(__name__)


class Settings(BaseSettings):
    """All keys of the service; the field name in capitals is the key in `.env`."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        use_attribute_docstrings=True,
        env_ignore_empty=True,
        env_file_encoding="utf-8",
    )

    default_model: str = "builtin"
    """Model to speak with: `builtin`, `xtts-v2`, or the path of a bundle or checkpoint."""

    models_dir: Path = Path("models")
    """Folder for downloaded models and for bundles the service lists."""

    voices_dir: Path = Path("voices")
    """Folder for uploaded voices: the reference clips, their consent and cached conditioning."""

    cache_dir: Path = Path("cache")
    """Folder for what can be found out again: what the probe saw of this machine's stack."""

    coqui_tos_agreed: bool = False
    """1 accepts the licence of XTTS-v2 (Coqui Public Model License, non-commercial)."""

    default_voice: str = ""
    """Voice used when a command names none; empty: the model's own default."""

    default_language: str = "auto"
    """Language of a request that names none: a code such as `en` or `pt`, or `auto`."""

    model_aliases: dict[str, str] = {
        "tts-1": "default",
        "tts-1-hd": "default",
        "gpt-4o-mini-tts": "default",
    }
    """JSON map from model names that clients send to models here; `default` is DEFAULT_MODEL."""

    voice_aliases: dict[str, str] = Field(
        default_factory=lambda: dict.fromkeys(
            (
                *("alloy", "ash", "ballad", "cedar", "coral", "echo", "fable"),
                *("marin", "nova", "onyx", "sage", "shimmer", "verse"),
            ),
            "default",
        )
    )
    """JSON map from voice names that clients send to voices here; `default` is DEFAULT_VOICE."""

    api_host: str = "127.0.0.1"
    """Address the API listens on; `0.0.0.0` for all of this machine's."""

    api_port: int = Field(default=8005, ge=0, le=65535)
    """Port the API listens on; 0 takes a free one."""

    api_keys: Annotated[list[str], NoDecode] = []
    """Keys that clients must send, comma separated; empty: no key is asked for."""

    public_listings: bool = True
    """Lists of models and voices need no key (some clients send none for them)."""

    cors_origins: Annotated[list[str], NoDecode] = []
    """Origins that browsers may call from, comma separated; `*` for all."""

    max_input_chars: int = Field(default=100_000, ge=1)
    """Longest text of one request, in characters."""

    max_upload_mb: float = Field(default=20, gt=0)
    """Largest upload of a reference clip, in megabytes."""

    min_clip_s: float = Field(default=1.0, ge=0.33)
    """Shortest reference clip, in seconds of decoded audio (XTTS needs 0.33)."""

    max_clip_s: float = Field(default=120, gt=0)
    """Longest reference clip, in seconds of decoded audio."""

    max_uploads: int = Field(default=4, ge=1)
    """Uploads that are read at the same time; more get a 429."""

    max_voices: int = Field(default=1000, ge=1)
    """Most uploaded voices kept."""

    max_queue: int | None = Field(default=None, ge=1)
    """Requests accepted and not yet finished; more get a 429 with Retry-After. Empty: twice the
    rows, at least 32."""

    max_batch_rows: int | None = Field(default=None, ge=1)
    """Segments of text that are decoded side by side. Empty: 16 on a CPU, up to 64 on a GPU."""

    first_chunk_tokens: int = Field(default=8, ge=1)
    """Audio tokens in the first streamed chunk; more where so few give less than 0.1 s of sound."""

    chunk_tokens: int = Field(default=40, ge=1)
    """Most audio tokens in a later streamed chunk; chunks grow from the first size to this."""

    output_retries: int = Field(default=2, ge=0)
    """Times a segment whose audio failed its checks is made again with another seed."""

    threads: int = Field(default=0, ge=0)
    """CPU threads of the worker; 0: one for each physical core this process may use."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Device to run on; `auto` takes what works."""

    force_cpu: bool = False
    """True keeps everything on the CPU, whatever DEVICE says."""

    precision: Literal["auto", "float32", "bfloat16", "float16", "int8"] = "auto"
    """Number format of the model; `auto`: what is fast here and was measured to be right."""

    engine_fast: bool = True
    """False takes the slow, obvious path, which the fast one is compared with."""

    cache_budget_mb: float | None = Field(default=None, gt=0)
    """Memory for keys and values of all segments decoded side by side; more of them wait. Empty:
    1536 on a CPU; none of its own on a GPU, where rows are counted at their longest."""

    sample_route: Literal["auto", "gpu", "cpu"] = "auto"
    """Where training makes its samples: `gpu`, or `cpu` for a process beside the training."""

    model_idle_s: float = Field(default=900.0, ge=0)
    """Seconds after which a model that nobody uses is unloaded, but for the default; 0: never."""

    model_wait_s: float = Field(default=30.0, ge=0)
    """Seconds a request waits for its model to be loaded before it gets a 503 with Retry-After."""

    memory_preset: Literal["none", "vram-8gb", "vram-12gb", "vram-24gb"] = "none"
    """Budget of GPU memory by the size of the card, with room left for the driver and a screen."""

    vram_budget_gb: float = Field(default=0.0, ge=0)
    """GPU memory that all models together may take, in GB; wins over MEMORY_PRESET; 0: the card."""

    ram_budget_gb: float = Field(default=0.0, ge=0)
    """Memory that models on the CPU may take together, in GB; 0: nine tenths of the machine's."""

    heartbeat_s: float = Field(default=2.0, gt=0)
    """Seconds between the worker's signs of life."""

    heartbeat_timeout_s: float = Field(default=30.0, gt=0)
    """Seconds without a sign of life after which the worker is killed and restarted."""

    stall_timeout_s: float = Field(default=120.0, gt=0)
    """Seconds one step of the model may take; a worker that is stuck is killed and restarted."""

    worker_start_timeout_s: float = Field(default=300.0, gt=0)
    """Seconds a worker may spend in one stage of its start without getting further."""

    restart_backoff_s: float = Field(default=0.5, ge=0)
    """Pause before the first restart of a worker; doubled for each further one, to 30 s."""

    request_timeout_s: float = Field(default=600.0, gt=0)
    """Longest time from accepting a request to its last audio."""

    shutdown_grace_s: float = Field(default=20.0, ge=0)
    """Time that requests in flight have to finish after SIGTERM."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """How much is logged."""

    @field_validator("api_keys", "cors_origins", mode="before")
    @classmethod
    def _split_commas(cls, value: Any) -> Any:
        if isinstance(value, str):
            return [part.strip() for part in value.split(",") if part.strip()]
        return value


def read_environment(names: Iterable[str]) -> dict[str, str]:
    """Returns those of the named variables that are set: what other programs' loaders obey.

    Our own keys are fields of `Settings`; this is for the likes of LD_LIBRARY_PATH.
    """
    return {name: os.environ[name] for name in names if name in os.environ}


def known_keys() -> frozenset[str]:
    """Returns every key that may stand in `.env`."""
    own = {name.upper() for name in Settings.model_fields}
    return frozenset(own | TRAINING_KEYS | FOREIGN_KEYS)


def load_settings(env_file: Path | None = None, **overrides: Any) -> Settings:
    """Reads `.env` and the environment and returns the frozen settings.

    Args:
        env_file: the file to read; `.env` in the working folder if None. It may be absent.
        **overrides: field values that win over both (command-line options).

    Raises:
        SettingsError: an unknown or misspelt key, or a value that does not fit. All faults are
            named at once.
    """
    path = env_file or DEFAULT_ENV_FILE
    in_file = _read_file(path)
    faults = _misspelt_in_file(in_file, path)
    for warning in (*_foreign_in_file(in_file, path), *_misspelt_in_environment(os.environ)):
        _log.warning(warning)
    settings: Settings | None = None
    try:
        settings = Settings(_env_file=path, **overrides)  # type: ignore[call-arg]
    except ValidationError as error:
        faults += [_describe(item) for item in error.errors()]
    except PydanticSettingsError as error:
        # "error parsing value for field "x" from source …": the cause is what helps
        words = str(error).split('"')
        key = words[1].upper() if len(words) > 1 else "A setting"
        faults.append(f"{key} is no JSON ({error.__cause__}); docs/settings.md shows its form.")
    if faults or settings is None:
        raise SettingsError(" ".join(faults))
    return settings


def _read_file(path: Path) -> dict[str, str | None]:
    """Returns what stands in the file; nothing where there is none.

    Raises:
        SettingsError: it can't be read, or is no text.
    """
    if not path.is_file():
        return {}
    try:
        return dotenv_values(stream=StringIO(path.read_text("utf-8")))
    except OSError as error:
        raise SettingsError(f"{path} can't be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not UTF-8 text; save it as UTF-8.") from error


def _nearest(key: str, cutoff: float) -> str | None:
    near = difflib.get_close_matches(key.upper(), sorted(known_keys()), n=1, cutoff=cutoff)
    return near[0] if near else None


def _misspelt_in_file(keys: Iterable[str], path: Path) -> list[str]:
    """Names each key of the file that is nearly one of ours: surely meant, so it stops."""
    unknown = [key for key in keys if key.upper() not in known_keys()]
    return [
        f"{path} has an unknown key {key}: did you mean {near}?"
        for key in unknown
        if (near := _nearest(key, _NEAR_IN_FILE))
    ]


def _foreign_in_file(keys: Iterable[str], path: Path) -> list[str]:
    """Names each key of the file that resembles none of ours: perhaps another program's."""
    return [
        f"{path} has a key that nothing here reads: {key}; docs/settings.md lists all keys."
        for key in keys
        if key.upper() not in known_keys() and not _nearest(key, _NEAR_IN_FILE)
    ]


def _misspelt_in_environment(names: Iterable[str]) -> list[str]:
    """Names each environment variable that is nearly, but not quite, one of our keys.

    The environment is full of other programs' variables, so only a near miss of a long key counts,
    and it is a warning.
    """
    return [
        f"The environment has {name}, which nothing here reads: did you mean {near}?"
        for name in names
        if len(name) >= _LONG_KEY
        and name not in known_keys()
        and (near := _nearest(name, _NEAR_IN_ENVIRONMENT))
    ]


def _describe(item: Any) -> str:
    """Turns one fault of pydantic into a sentence with the key and the remedy."""
    key = ".".join(str(part) for part in item["loc"]).upper()
    return f"{key}={item.get('input')!r} does not fit: {item['msg']}; see docs/settings.md."
