"""How XTTS was taught to spell: lower case, pinyin, romaji, romanised Hangul.

The rules are those of training (source: coqui-tts 0.28, TTS/tts/layers/xtts/tokenizer.py and
zh_num2words.py). Knows no vocabulary. Each library is loaded on first use.
"""

from __future__ import annotations

import string
from collections.abc import Callable

#: Chinese was trained with every punctuation mark as a comma.
_CHINESE_MARKS = (
    "！？｡。（），－／：；、〃《》「」『』【】〔〕〖〗〜–—‘’“”„‟…‧·〈〉" + string.punctuation
)
_CHINESE_COMMAS = str.maketrans(dict.fromkeys(_CHINESE_MARKS, ","))


class LetterSpeller:
    """Spells words in the letters of training; keeps the Japanese dictionary once loaded."""

    def __init__(self) -> None:
        self._romaji: Callable[[str], str] | None = None

    def spell(self, text: str, language: str) -> str:
        """Returns the text as the vocabulary of XTTS has it.

        Args:
            text: clean text, numbers in words.
            language: an XTTS code.
        """
        text = text.replace('"', "")
        if language == "tr":
            text = text.replace("İ", "i").replace("I", "ı")
        text = text.lower().replace("i\u0307", "i")  # İ lower-cases to two characters elsewhere
        if language == "zh-cn":
            return _spell_chinese(text)
        if language == "ko":
            return _spell_korean(text)
        if language == "ja":
            return self._spell_japanese(text)
        return text

    def _spell_japanese(self, text: str) -> str:
        if self._romaji is None:
            from cutlet import Cutlet

            self._romaji = Cutlet().romaji
        return self._romaji(text).lower()


def _spell_chinese(text: str) -> str:
    from pypinyin import Style, pinyin

    syllables = pinyin(
        text.translate(_CHINESE_COMMAS),
        style=Style.TONE3,
        heteronym=False,
        neutral_tone_with_five=True,
    )
    return "".join(syllable[0] for syllable in syllables)


def _spell_korean(text: str) -> str:
    from ko_speech_tools import hangul_romanize

    romanised: str = hangul_romanize(text)
    return romanised
