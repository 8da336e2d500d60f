"""A clip's text as the model reads it, in one piece, and what keeps it from being learnt."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from app.errors import InputError
from app.text.clean import clean_text
from app.text.detect import detect_language
from app.text.languages import LANGUAGES, resolve_language
from app.text.normalise import normalise
from app.text.tokenizer import TextTokenizer
from train.data.findings import Finding

AUTO = "auto"
#: A text says another language only if it has so many words and both its halves say so too:
#: names and loan words make single short texts look foreign.
_MIN_WORDS_FOR_LANGUAGE = 6
_SAMPLE_TEXTS = 60


@dataclass(frozen=True)
class ReadText:
    """A text in words and in tokens (language token first, without start and stop)."""

    spoken: str = ""
    token_ids: tuple[int, ...] = ()
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class LanguageChoice:
    """The language of clips that name none.

    `code` is how they are spelt for the model, `reads_like` what their texts look like: another
    one only where the user insists on it. `problem` says why they can't be trained on, if so.
    """

    code: str
    reads_like: str
    reason: str
    problem: str = ""


def choose_language(wanted: str, texts: Sequence[str], supported: Sequence[str]) -> LanguageChoice:
    """Returns the language of clips that name none, and why.

    Args:
        wanted: a code, or "auto".
        texts: of all clips; some from the whole length of the data are looked at.
        supported: the codes that the model has.

    Raises:
        InputError: on `language`, when the model does not have the one that is wanted.
    """
    is_auto = wanted.strip().lower() == AUTO
    code = supported[0] if is_auto else resolve_language(wanted, supported)
    step = max(1, len(texts) // _SAMPLE_TEXTS)
    seen, reason = detect_language(" ".join(sorted(texts)[::step]), tuple(LANGUAGES), code)
    if not is_auto:
        reason = f"TRAIN_LANGUAGE={wanted}"
        doubt = f"; the texts read like {seen}" if seen != code else ""
        return LanguageChoice(code, seen, reason + doubt)
    if seen in supported:
        return LanguageChoice(seen, seen, reason)
    problem = (
        f"The texts read like {LANGUAGES[seen].name}, which the model does not speak "
        f"({', '.join(supported)}): choose another BASE_MODEL, or set TRAIN_LANGUAGE to go on."
    )
    return LanguageChoice(code, seen, reason, problem)


def read_text(
    text: str, language: str, tokenizer: TextTokenizer, *, reads_like: str, max_tokens: int
) -> ReadText:
    """Turns a text into words and tokens as the service does, but never splits it.

    Args:
        text: as the data set has it.
        language: the code it is spelt in.
        tokenizer: the model's.
        reads_like: the code it should look like; nearly always `language`.
        max_tokens: most tokens, language token included.
    """
    try:
        cleaned = clean_text(text)
    except InputError:
        return ReadText(findings=(Finding("empty_text", f"{text[:40]!r} has nothing to speak"),))
    findings: list[Finding] = []
    found = foreign_language(cleaned, reads_like)
    if found:
        detail = f"{_start(cleaned)} reads like {found}, where {reads_like} is expected"
        findings.append(Finding("wrong_language", detail))
    spoken = normalise(cleaned, language)
    try:
        spelling = tokenizer.spell(spoken, language)
        ids = tuple(tokenizer.encode_spelling(spelling, language))
    except InputError as error:
        return ReadText(spoken, (), (*findings, Finding("wrong_language", error.message)))
    if spelling.dropped:
        detail = f"{_start(cleaned)} has {_quoted(spelling.dropped)}"
        findings.append(Finding("unknown_characters", detail))
    elif tokenizer.unknown_id in ids:
        findings.append(Finding("unknown_characters", f"{_start(cleaned)} has an unknown symbol"))
    if len(ids) > max_tokens:
        detail = f"it has {len(ids)} tokens, the model takes {max_tokens}"
        findings.append(Finding("text_too_long", detail))
    return ReadText(spoken, ids, tuple(findings))


def foreign_language(text: str, expected: str) -> str:
    """Returns the language that a clean text surely is in, if that is not `expected`; else ""."""
    known = tuple(LANGUAGES)
    words = text.split()
    if len(words) < _MIN_WORDS_FOR_LANGUAGE:
        script, reason = detect_language(text, known, expected)
        return script if script != expected and reason.startswith("script") else ""
    middle = len(words) // 2
    parts = (text, " ".join(words[:middle]), " ".join(words[middle:]))
    found = {detect_language(part, known, expected)[0] for part in parts}
    return found.pop() if len(found) == 1 and expected not in found else ""


def text_key(text: str) -> str:
    """Returns what is the same for all takes of a text: its words without case and punctuation."""
    letters = (char if char.isalnum() else " " for char in text.casefold())
    return " ".join("".join(letters).split())


def _start(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")


def _quoted(characters: Iterable[str]) -> str:
    return ", ".join(repr(char) for char in characters)
