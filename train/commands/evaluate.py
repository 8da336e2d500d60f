"""`python -m train evaluate`: how well a bundle is understood."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

_SENTENCES = Path("recipes/builtin/held_out.csv")


def add_parser(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser("evaluate", help="let a recogniser listen to a bundle")
    parser.add_argument("model", help="builtin, a name under MODELS_DIR, or a path")
    parser.add_argument(
        "--sentences", type=Path, default=_SENTENCES, help="file of id|text|seconds lines"
    )
    parser.add_argument(
        "--voice", default="", help="a voice of the bundle; its default if left out"
    )
    parser.add_argument("--limit", type=int, default=0, help="only so many sentences; 0: all")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same speech")
    parser.add_argument("--out", type=Path, help="JSON file for the figures and every sentence")
    parser.add_argument("--json", action="store_true", help="print the result as JSON, last line")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Speaks, listens and prints the figures.

    Raises:
        AudioVoiceError: no such model or sentences, or no recogniser is installed.
    """
    from train.evaluation import evaluate_bundle, read_sentences
    from train.transcribe import PocketSphinx

    sentences = read_sentences(arguments.sentences)
    if arguments.limit:
        sentences = sentences[: arguments.limit]
    scores, results = evaluate_bundle(
        arguments.model,
        sentences,
        PocketSphinx(),
        voice=arguments.voice,
        seed=arguments.seed,
    )
    figures = scores.as_dict()
    for name, value in figures.items():
        sys.stdout.write(f"{name:18} {value}\n")
    if arguments.out:
        content = {
            "scores": figures,
            "sentences": [
                {"id": r.name, "text": r.text, "heard": r.heard, "fault": r.fault} for r in results
            ],
        }
        arguments.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if arguments.json:
        sys.stdout.write(json.dumps(figures) + "\n")
    return 0
