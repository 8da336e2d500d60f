"""Writes `.env.example` and `docs/settings.md` from the settings of the service and the trainer.

The two classes are the one truth; a test fails when either file differs from what this writes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic_settings import BaseSettings

from app.settings import FOREIGN_KEYS, Settings
from train.options import TrainingOptions

ROOT = Path(__file__).resolve().parent.parent
ENV_EXAMPLE = ROOT / ".env.example"
SETTINGS_PAGE = ROOT / "docs" / "settings.md"

CLASSES: tuple[type[BaseSettings], ...] = (Settings, TrainingOptions)
#: Heading before the field named; fields follow in the order of the classes.
SECTIONS = {
    "default_model": "Model and voices",
    "api_host": "HTTP",
    "max_input_chars": "Limits",
    "max_batch_rows": "Synthesis",
    "threads": "Device",
    "model_idle_s": "Memory",
    "heartbeat_s": "Worker",
    "log_level": "Log",
    "data": "Training data",
    "train_output_dir": "Training: the run",
    "sample_text": "Training: around the epochs",
}
FOREIGN = {
    "API_BIND": "compose: the host's address that ports are published on.",
    "BASE_IMAGE": "compose, when it builds: another image to build on (docs/deploy.md).",
    "HF_ENDPOINT": "huggingface-hub: another hub to fetch XTTS-v2 from.",
    "HF_HUB_OFFLINE": "huggingface-hub: 1 never asks the hub.",
    "HF_TOKEN": "huggingface-hub: an access token.",
    "TORCH": "compose, when it builds: `cu118`, `cu128`, `cpu` or `pypi` (docs/deploy.md).",
    "TZ": "the system: time zone of the logs.",
}


def written_value(value: Any) -> str:
    """Returns a default as it is written in `.env`."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return json.dumps(value)
    if isinstance(value, list):
        return ",".join(value)
    return str(value)


def fields() -> list[tuple[str, str, str]]:
    """Returns (field name, default as written, description) in the order of the classes."""
    return [
        (name, written_value(getattr(defaults, name)), " ".join((info.description or "").split()))
        for defaults in (settings.model_construct() for settings in CLASSES)
        for name, info in type(defaults).model_fields.items()
    ]


def env_example() -> str:
    """Returns the text of `.env.example`."""
    lines = [
        "# Copy to .env and change what you need. Every key may also stand in the environment,",
        "# which wins. docs/settings.md lists the same keys.",
    ]
    for name, default, description in fields():
        if name in SECTIONS:
            lines += ["", f"# --- {SECTIONS[name]} ---"]
        quoted = f"'{default}'" if default.startswith("{") else default
        lines += ["", f"# {description}", f"{name.upper()}={quoted}"]
    return "\n".join(lines) + "\n"


def settings_page() -> str:
    """Returns the text of `docs/settings.md`."""
    lines = [
        "# Settings",
        "",
        "Read once at the start from `.env` in the working folder and from the environment, which",
        "wins. A misspelt key in `.env` stops the start and is named with its nearest match.",
        "This page is written by `python -m scripts.write_settings_docs` from `app/settings.py`",
        "and `train/options.py`.",
    ]
    for name, default, description in fields():
        if name in SECTIONS:
            lines += [
                "",
                f"## {SECTIONS[name]}",
                "",
                "| key | default | meaning |",
                "|---|---|---|",
            ]
        shown = f"`{default}`" if default else "(empty)"
        lines.append(f"| `{name.upper()}` | {shown} | {description.replace('|', chr(92) + '|')} |")
    lines += ["", "## Read by others", "", "| key | read by |", "|---|---|"]
    lines += [f"| `{key}` | {FOREIGN[key]} |" for key in sorted(FOREIGN_KEYS)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Writes both files."""
    ENV_EXAMPLE.write_text(env_example(), encoding="utf-8")
    SETTINGS_PAGE.write_text(settings_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
