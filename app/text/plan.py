"""The text room's one result: what a model is to say, segment by segment.

Joins cleaning, language detection, splitting, number reading and encoding; does none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from app.errors import InputError
from app.text.clean import clean_text
from app.text.detect import detect_language
from app.text.languages import LANGUAGES, resolve_language
from app.text.normalise import normalise
from app.text.split import split_sentences, split_text
from app.text.tokenizer import TextTokenizer

AUTO = "auto"


@dataclass(frozen=True)
class Segment:
    """A piece of text that the model says in one go."""

    #: the piece as the caller wrote it, cleaned
    text: str
    #: the same in words, as it is read out
    spoken: str
    #: an XTTS code
    language: str
    #: without start and stop, language token first
    token_ids: tuple[int, ...]
    #: why this language: "requested", or what the detection saw
    language_reason: str = "requested"
    #: characters that the model's vocabulary has no spelling for, left out
    dropped: str = ""


def plan_segments(
    text: str,
    *,
    language: str,
    tokenizer: TextTokenizer,
    supported: Sequence[str],
    default_language: str,
    max_tokens: int,
    is_sayable: Callable[[str, str], bool],
) -> list[Segment]:
    """Turns a request's text into segments that the model can take.

    Args:
        text: anything.
        language: an XTTS code in any usual form, or "auto".
        tokenizer: the model's.
        supported: codes the model speaks.
        default_language: taken where "auto" cannot tell.
        max_tokens: most text tokens of a segment, start and stop not counted.
        is_sayable: given a piece in words and its language, whether the model's audio is long
            enough for it. A longer piece is split.

    Returns:
        At least one segment; each has at most `max_tokens` ids, none of them the unknown id.

    Raises:
        InputError: on `input` when nothing can be spoken; on `language` when it is not supported.
    """
    cleaned = clean_text(text)
    segments: list[Segment] = []
    for run, code, reason in _language_runs(cleaned, language, supported, default_language):
        segments += _plan_run(run, code, reason, tokenizer, max_tokens, is_sayable)
    if not segments:
        raise InputError(
            "input has no character that this model can speak; write it in one of its "
            f"languages: {', '.join(supported)}.",
            param="input",
            code="empty_text",
        )
    return segments


def _language_runs(
    text: str, language: str, supported: Sequence[str], default_language: str
) -> Iterator[tuple[str, str, str]]:
    """Yields (text, code, reason) of neighbouring sentences in one language."""
    if language.strip().lower() != AUTO:
        yield text, resolve_language(language, supported), "requested"
        return
    default = resolve_language(default_language, supported)
    main, main_reason = detect_language(text, supported, default)
    run: list[str] = []
    code, reason = main, main_reason
    for sentence in split_sentences(text, main):
        found, found_reason = detect_language(sentence, supported, code)
        if found != code and run:
            yield _join(run), code, reason
            run = []
        if found != code:
            code, reason = found, found_reason
        run.append(sentence)
    if run:
        yield _join(run), code, reason


def _join(sentences: list[str]) -> str:
    """Puts sentences in a row again; those of a script without spaces need none."""
    spaced = (s if s.endswith(("。", "！", "？")) else s + " " for s in sentences)
    return "".join(spaced).rstrip()


def _is_speakable(segment: Segment) -> bool:
    """Whether any letter of a segment reached the model."""
    return any(char.isalnum() and char.lower() not in segment.dropped for char in segment.spoken)


def _plan_run(
    text: str,
    language: str,
    reason: str,
    tokenizer: TextTokenizer,
    max_tokens: int,
    is_sayable: Callable[[str, str], bool],
) -> Iterator[Segment]:
    max_chars = LANGUAGES[language].char_limit

    made: dict[str, Segment] = {}  # what `fits` made of each piece, so nothing is read twice

    def make(piece: str) -> Segment:
        spoken = normalise(piece, language)
        spelling = tokenizer.spell(spoken, language)
        ids = tuple(tokenizer.encode_spelling(spelling, language))
        return Segment(piece, spoken, language, ids, reason, spelling.dropped)

    def fits(piece: str) -> bool:
        segment = made[piece] = made.get(piece) or make(piece)
        return (
            len(segment.spoken) <= max_chars
            and len(segment.token_ids) <= max_tokens
            and is_sayable(segment.spoken, language)
        )

    for piece in split_text(text, language, max_chars, fits):
        segment = made.pop(piece, None) or make(piece)
        if not _is_speakable(segment):
            continue
        if len(segment.token_ids) > max_tokens:
            raise InputError(
                f"input holds {piece[:20]!r}, which is too long for this model in one piece; "
                "leave it out or write it in words.",
                param="input",
                code="unspeakable_text",
            )
        yield segment
