"""`python -m train evaluate`: how well a bundle is understood, and whose voice it is."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.files import write_atomic

if TYPE_CHECKING:
    from train.evaluation import Evaluation
    from train.judging.against import Comparison
    from train.judging.speaking import Speaking

_SENTENCES = Path("recipes/builtin/held_out.csv")
_API_KEY = "AUDIO_VOICE_API_KEY"


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
    parser.add_argument("--language", default="en", help="of the sentences")
    parser.add_argument("--limit", type=int, default=0, help="only so many sentences; 0: all")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same speech")
    parser.add_argument(
        "--url",
        default="",
        help="speak through the service there, which must have loaded this model; "
        f"its key is read from {_API_KEY}",
    )
    parser.add_argument(
        "--recordings",
        type=Path,
        help="folder of the voice's speaker, files named as the sentences: for the recogniser's "
        "own errors, the speaker's likeness and copy synthesis",
    )
    parser.add_argument(
        "--others",
        type=Path,
        action="append",
        default=[],
        help="folder of another speaker's recordings, for the likeness; may be given again",
    )
    parser.add_argument("--pictures", type=Path, help="folder for spectrograms of sentences")
    parser.add_argument("--out", type=Path, help="JSON file for the figures and every sentence")
    parser.add_argument("--json", action="store_true", help="print the result as JSON, last line")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Speaks, listens and prints the figures.

    Raises:
        AudioVoiceError: no such model, sentences or recordings, no service at the URL, or no
            recogniser is installed.
    """
    from app.models.bundles import find_bundle
    from app.settings import Settings
    from train.evaluation import evaluate, read_sentences
    from train.judging.against import compare
    from train.judging.recordings import read_recordings
    from train.transcribe import PocketSphinx

    sentences = read_sentences(arguments.sentences)
    if arguments.limit:
        sentences = sentences[: arguments.limit]
    bundle = find_bundle(arguments.model, Settings())
    recordings = read_recordings(
        [sentence.name for sentence in sentences], arguments.recordings, arguments.others
    )
    ears = PocketSphinx()
    evaluation = evaluate(_open_voice(arguments), sentences, ears, seed=arguments.seed)
    comparison = compare(
        evaluation, sentences, recordings, ears, bundle=bundle, language=arguments.language
    )
    if arguments.pictures:
        from train.judging.pictures import draw_pairs

        draw_pairs(arguments.pictures, evaluation, recordings)
    _tell(arguments, evaluation, comparison)
    return 0


def _open_voice(arguments: argparse.Namespace) -> Speaking:
    from train.judging.speaking import InThisProcess, ThroughService

    if not arguments.url:
        return InThisProcess(arguments.model, arguments.voice, arguments.language)
    return ThroughService(
        arguments.url,
        arguments.voice,
        arguments.language,
        os.environ.get(_API_KEY, ""),
    )


def _tell(arguments: argparse.Namespace, evaluation: Evaluation, comparison: Comparison) -> None:
    figures = evaluation.scores.as_dict() | comparison.as_dict()
    for name, value in figures.items():
        if name != "left_out":
            sys.stdout.write(f"{name:26} {value}\n")
    for name, why in comparison.left_out.items():
        sys.stdout.write(f"{name:26} left out: {why}\n")
    if arguments.out:
        content = {
            "scores": figures,
            "sentences": [
                {"id": r.name, "text": r.text, "heard": r.heard, "fault": r.fault}
                for r in evaluation.results
            ],
        }
        write_atomic(arguments.out, (json.dumps(content, indent=1) + "\n").encode())
    if arguments.json:
        sys.stdout.write(json.dumps(figures) + "\n")
