"""How long a text can plausibly take to say. Knows letters and numbers; nothing of samples.

A text's length is counted in letters, by script, since one Chinese character is said in the time
of some three Latin letters. Rates are per second of a whole clip, pauses included.

Measured for the alphabets on public-domain read speech: letters per second of 1,556 clips of one
American speaker (CMU Arctic prompts, 7 to 66 letters): 0.5 % to 99.5 % lie in 6.9-16.8, all in
4.8-18.2; of 1,374 clips of one German speaker: 10.0-18.7 and 7.6-21.7. The slowest are the
shortest ("Ah, indeed.": 8 letters in 1.7 s), which is what the constant slack is for. The bounds
leave room beyond that for a hasty and for a solemn voice.

Other scripts are set by syllables: the mean rates measured by Pellegrino, Coupé and Marsico ("A
cross-language perspective on speech information rate", Language 87(3), 2011) are 5.2 a second for
Mandarin, 6.2 for English, 7.8 for Japanese. A Han character is one syllable in Chinese and mostly
two morae in Japanese, a kana is one mora, a Hangul block one syllable (Korean was not measured
there; English's rate is taken). The same room is left around the mean as for the alphabets (times
0.37 and times 1.9). Arabic writes few of its vowels, and Devanagari's vowel signs are marks that
are not counted, so both have fewer letters for the same sounds; their rates are estimates.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import NamedTuple


class Rate(NamedTuple):
    """Slowest and fastest plausible rate, in letters per second."""

    slowest: float
    fastest: float


ALPHABET = Rate(5.0, 25.0)
ABJAD = Rate(3.0, 18.0)
KANA = Rate(2.9, 15.0)
HANGUL = Rate(2.2, 12.0)
HAN = Rate(1.9, 10.0)
HAN_IN_JAPANESE = Rate(1.45, 7.5)
#: A digit left in the text is read as a word of this length, or passed over.
DIGIT_LONGEST_S = 0.7

#: Silence and slowness that do not grow with the text: breath, a solemn "Ah, indeed."
SLACK_S = 1.5
#: A clipped "Yes." takes less than its letters' share.
HASTE_S = 0.2
#: Under this nothing was said at all.
LEAST_S = 0.08

_RATE_OF_SCRIPT = {
    "ARABIC": ABJAD,
    "HEBREW": ABJAD,
    "DEVANAGARI": ABJAD,
    "HIRAGANA": KANA,
    "KATAKANA": KANA,
    "KATAKANA-HIRAGANA": KANA,
    "HANGUL": HANGUL,
    "HALFWIDTH": KANA,
    "CJK": HAN,
    "IDEOGRAPHIC": HAN,
}


@dataclass(frozen=True)
class DurationRange:
    """Plausible durations of a text, in seconds."""

    shortest_s: float
    longest_s: float


def plausible_duration(spoken: str, language: str = "", speed: float = 1.0) -> DurationRange:
    """Returns the range of durations in which the text can be said.

    Args:
        spoken: the text as it is spoken, numbers and symbols written out; romanised or in its own
            script, since each letter counts by what it is.
        language: its code. Tells the tone marks of Chinese pinyin from digits that are read, and
            Japanese readings of Han characters from Chinese ones; "" assumes neither.
        speed: 2.0 says it in half the time.
    """
    shortest_s = longest_s = 0.0
    digit_longest_s = 0.0 if language.startswith("zh") else DIGIT_LONGEST_S
    for character in spoken:
        if character.isdigit():
            longest_s += digit_longest_s
        elif character.isalpha():
            rate = _rate_of(character, language)
            shortest_s += 1.0 / rate.fastest
            longest_s += 1.0 / rate.slowest
    return DurationRange(
        shortest_s=max(LEAST_S, shortest_s - HASTE_S) / speed,
        longest_s=(longest_s + SLACK_S) / speed,
    )


def _rate_of(letter: str, language: str) -> Rate:
    if letter.isascii():
        return ALPHABET
    script = unicodedata.name(letter, "").split(" ", 1)[0]
    rate = _RATE_OF_SCRIPT.get(script, ALPHABET)
    return HAN_IN_JAPANESE if rate is HAN and language.startswith("ja") else rate
