"""Which language a text is in: script first, then a statistical classifier (py3langid).

Offline. Only names languages that the model speaks; a text too short or too mixed to tell takes the
language that the caller thinks likely.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

#: Script -> languages of XTTS written in it. Kana decides before Han.
_SCRIPTS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"[\u3040-\u30ff]"), "ja"),
    (re.compile(r"[\u3400-\u9fff]"), "zh-cn"),
    (re.compile(r"[\u1100-\u11ff\uac00-\ud7af]"), "ko"),
    (re.compile(r"[\u0600-\u06ff\u0750-\u077f]"), "ar"),
    (re.compile(r"[\u0900-\u097f]"), "hi"),
    (re.compile(r"[\u0400-\u04ff]"), "ru"),
)
_LATIN = ("en", "es", "fr", "de", "it", "pt", "pl", "tr", "nl", "cs", "hu")

#: Letters that one of the Latin languages has and the others lack or hardly use.
_MARKS = {
    "ã": "pt", "õ": "pt", "ñ": "es", "¿": "es", "¡": "es", "ß": "de", "ı": "tr", "ğ": "tr",
    "ş": "tr", "ł": "pl", "ą": "pl", "ę": "pl", "ż": "pl", "ś": "pl", "ź": "pl", "ř": "cs",
    "ě": "cs", "ů": "cs", "ő": "hu", "ű": "hu", "œ": "fr",
}  # fmt: skip

#: Common short words, few of them shared among these languages.
_WORDS = {
    "en": "the and is are was were of to with this that you have for not it he she they what my",
    "es": "el los las y en es con una por pero muy está qué del al ella yo su hay como esto",
    "fr": "le les des est et une dans pour pas vous nous avec je il elle sur au ce c'est du",
    "de": "der die und ist nicht ein eine ich sie mit auf das den wir zu für von es war auch",
    "it": "il gli che è di una per non sono con della più ma anche questo ho hai lo nel mi",
    "pt": "o os um uma não com em do da para você mas isso é ao são muito eu meu foi à no na",
    "pl": "nie się jest to na że i w z do jak ale co czy tak ja był po są już",
    "tr": "ve bir bu da de için ile çok ne var değil mi ben sen o ama daha gibi kadar",
    "nl": "de het een is niet van ik je dat in op te zijn met voor ook maar wat er",
    "cs": "je se na že to v a není jsem jsou ale jak co tak už byl pro po být",
    "hu": "a az és nem is egy hogy van ez de meg én te mi már csak volt ha mert vagy",
}
_COMMON_WORDS: dict[str, frozenset[str]] = {
    code: frozenset(words.split()) for code, words in _WORDS.items()
}

_WORD_RE = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
#: Characters looked at; more would not change the verdict.
_SAMPLE_CHARS = 2000
#: Least share of the evidence that the winner must have.
_MIN_CONFIDENCE = 0.65
_MIN_WORDS = 3


def detect_language(text: str, supported: Sequence[str], default: str) -> tuple[str, str]:
    """Names the language of a text.

    Args:
        text: clean text.
        supported: codes to choose from.
        default: the answer for text that is too short or unsure.

    Returns:
        The code, one of `supported` or `default`, and the reason in a few words.
    """
    sample = text[:_SAMPLE_CHARS]
    by_script = _detect_script(sample, default)
    if by_script is not None:
        if by_script in supported:
            return by_script, f"script of {by_script}"
        return default, f"the model does not speak {by_script}"
    candidates = [code for code in _LATIN if code in supported]
    if not candidates:
        return default, "the model speaks no language of this script"
    if len(candidates) == 1:
        return candidates[0], "the one language of this script that the model speaks"
    words = [word.lower() for word in _WORD_RE.findall(sample)]
    if len(words) < _MIN_WORDS:
        return default, "too short to tell"
    code, confidence = _classify(sample, words, candidates)
    if confidence < _MIN_CONFIDENCE:
        return default, f"unsure ({code} at {confidence:.0%})"
    return code, f"{code} at {confidence:.0%}"


def prepare_detection(supported: Sequence[str]) -> None:
    """Loads the classifier where the model's languages can need it.

    Takes most of a second and 50 MB; without this the first text to be classified waits for it.
    """
    if sum(code in supported for code in _LATIN) > 1:
        _identifier()


def _detect_script(sample: str, default: str) -> str | None:
    num_letters = sum(char.isalpha() for char in sample)
    counts = {code: len(pattern.findall(sample)) for pattern, code in _SCRIPTS}
    code, count = max(counts.items(), key=lambda item: item[1])
    # a Han sign is about a word, so fewer of them weigh more than Latin letters beside them
    if 3 * count < num_letters or count == 0:
        return None
    if code == "zh-cn" and (counts["ja"] * 10 >= count or default == "ja"):
        return "ja"
    return code


def _classify(sample: str, words: list[str], candidates: list[str]) -> tuple[str, float]:
    """Joins the classifier's probabilities with telling letters and words."""
    scores = _probabilities(sample, candidates)
    for code in candidates:
        hits = sum(word in _COMMON_WORDS[code] for word in words)
        scores[code] += 2.0 * hits / len(words)
    for mark, code in _MARKS.items():
        if code in scores and mark in sample.lower():
            scores[code] += 0.5
    best = max(candidates, key=lambda code: scores[code])
    rest = max((scores[code] for code in candidates if code != best), default=0.0)
    return best, scores[best] / (scores[best] + rest)


def _probabilities(sample: str, candidates: list[str]) -> dict[str, float]:
    ranked = _identifier().rank(sample)
    found = {code: float(probability) for code, probability in ranked if code in candidates}
    total = sum(found.values()) or 1.0
    return {code: found.get(code, 0.0) / total for code in candidates}


@lru_cache(maxsize=1)
def _identifier() -> Any:
    from py3langid.langid import (  # type: ignore[import-untyped]
        MODEL_FILE,
        LanguageIdentifier,
    )

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(list(_LATIN))
    # 19 MB for going back to all languages
    identifier._full_model = None  # noqa: SLF001
    return identifier
