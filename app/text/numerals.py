"""Numbers in words for the languages that num2words lacks or writes otherwise than they are read.

Chinese and Hindi are missing there; Turkish is written there without spaces, and Czech without
ordinals. Whole numbers only.
"""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_CHINESE_DIGITS = "零一二三四五六七八九"
_CHINESE_SCALES = (
    (10**12, "万亿"),
    (10**8, "亿"),
    (10**4, "万"),
    (1000, "千"),
    (100, "百"),
    (10, "十"),
)
_TURKISH_ONES = ("", "bir", "iki", "üç", "dört", "beş", "altı", "yedi", "sekiz", "dokuz")
_TURKISH_TENS = ("", "on", "yirmi", "otuz", "kırk", "elli", "altmış", "yetmiş", "seksen", "doksan")
_TURKISH_SCALES = ("", "bin", "milyon", "milyar", "trilyon")
_HINDI_SCALES = ((10**7, "करोड़"), (10**5, "लाख"), (1000, "हज़ार"), (100, "सौ"))
_HINDI = _words(
    "शून्य एक दो तीन चार पाँच छह सात आठ नौ दस ग्यारह बारह तेरह चौदह पंद्रह सोलह सत्रह अठारह "
    "उन्नीस बीस इक्कीस बाईस तेईस चौबीस पच्चीस छब्बीस सत्ताईस अट्ठाईस उनतीस तीस इकतीस बत्तीस "
    "तैंतीस चौंतीस पैंतीस छत्तीस सैंतीस अड़तीस उनतालीस चालीस इकतालीस बयालीस तैंतालीस चौवालीस "
    "पैंतालीस छियालीस सैंतालीस अड़तालीस उनचास पचास इक्यावन बावन तिरपन चौवन पचपन छप्पन सत्तावन "
    "अट्ठावन उनसठ साठ इकसठ बासठ तिरसठ चौंसठ पैंसठ छियासठ सड़सठ अड़सठ उनहत्तर सत्तर इकहत्तर "
    "बहत्तर तिहत्तर चौहत्तर पचहत्तर छिहत्तर सतहत्तर अठहत्तर उनासी अस्सी इक्यासी बयासी तिरासी "
    "चौरासी पचासी छियासी सत्तासी अट्ठासी नवासी नब्बे इक्यानवे बानवे तिरानवे चौरानवे पचानवे "
    "छियानवे सत्तानवे अट्ठानवे निन्यानवे"
)
_CZECH_ORDINALS = _words(
    "nultý první druhý třetí čtvrtý pátý šestý sedmý osmý devátý desátý jedenáctý dvanáctý "
    "třináctý čtrnáctý patnáctý šestnáctý sedmnáctý osmnáctý devatenáctý"
)
_CZECH_TENS = _words("dvacátý třicátý čtyřicátý padesátý šedesátý sedmdesátý osmdesátý devadesátý")


def say_chinese(number: int) -> str:
    """Says a whole number in Chinese characters."""
    if number < 10:
        return _CHINESE_DIGITS[number]
    for unit, name in _CHINESE_SCALES:
        if number >= unit:
            head, rest = divmod(number, unit)
            spoken = ("" if unit == 10 and head == 1 else say_chinese(head)) + name
            if rest and rest < unit // 10:
                spoken += "零"
            if 10 <= rest < 20 and unit > 10:
                return spoken + "一" + say_chinese(rest)
            return spoken + (say_chinese(rest) if rest else "")
    return ""


def say_hindi(number: int) -> str:
    """Says a whole number in Hindi."""
    if number < 100:
        return _HINDI[number]
    for unit, name in _HINDI_SCALES:
        if number >= unit:
            head, rest = divmod(number, unit)
            return f"{say_hindi(head)} {name}" + (f" {say_hindi(rest)}" if rest else "")
    return ""


def say_turkish(number: int) -> str:
    """Says a whole number in Turkish, its words apart."""
    if number == 0:
        return "sıfır"
    words: list[str] = []
    for power in range(len(_TURKISH_SCALES) - 1, -1, -1):
        hundreds, rest = divmod(number // 1000**power % 1000, 100)
        group = []
        if hundreds:
            group += [_TURKISH_ONES[hundreds]] if hundreds > 1 else []
            group.append("yüz")
        group += [word for word in (_TURKISH_TENS[rest // 10], _TURKISH_ONES[rest % 10]) if word]
        if group and power == 1 and group == ["bir"]:
            group = []
            words.append("bin")
        elif group:
            words += [*group, _TURKISH_SCALES[power]]
    return " ".join(word for word in words if word)


_TURKISH_ORDINALS = {
    "sıfır": "sıfırıncı", "bir": "birinci", "iki": "ikinci", "üç": "üçüncü", "dört": "dördüncü",
    "beş": "beşinci", "altı": "altıncı", "yedi": "yedinci", "sekiz": "sekizinci",
    "dokuz": "dokuzuncu", "on": "onuncu", "yirmi": "yirminci", "otuz": "otuzuncu",
    "kırk": "kırkıncı", "elli": "ellinci", "altmış": "altmışıncı", "yetmiş": "yetmişinci",
    "seksen": "sekseninci", "doksan": "doksanıncı", "yüz": "yüzüncü", "bin": "bininci",
    "milyon": "milyonuncu", "milyar": "milyarıncı", "trilyon": "trilyonuncu",
}  # fmt: skip


def say_turkish_rank(number: int) -> str:
    """Says a Turkish ordinal."""
    *head, last = say_turkish(number).split()
    return " ".join([*head, _TURKISH_ORDINALS[last]])


def say_czech_rank(number: int) -> str:
    """Says a Czech ordinal, masculine, for ranks up to 100."""
    if number < 20:
        return _CZECH_ORDINALS[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return _CZECH_TENS[tens - 2] + (f" {_CZECH_ORDINALS[ones]}" if ones else "")
    if number == 100:
        return "stý"
    raise ValueError(f"no Czech ordinal for {number}")
