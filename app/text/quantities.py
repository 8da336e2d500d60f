"""Amounts of money, percentages and measures in words.

Names of units and of most currencies come from CLDR by babel, plurals too; the everyday names of
dollars, pounds, euros, reais and their cents stand here, since CLDR has only the formal ones.
"""

from __future__ import annotations

import re
from functools import lru_cache

from app.text.dates import CLDR_LOCALES
from app.text.lexicon import LEXICON
from app.text.numbers import (
    SPACED_NUMBER,
    Number,
    cardinal,
    parse_number,
    read_digits_or_cardinal,
    read_number,
)

_SYMBOLS = {
    "R$": "BRL", "US$": "USD", "$": "USD", "€": "EUR", "£": "GBP", "¥": "JPY", "₹": "INR",
    "₽": "RUB", "₩": "KRW", "₺": "TRY", "zł": "PLN", "Kč": "CZK", "Ft": "HUF", "CHF": "CHF",
    "BRL": "BRL", "USD": "USD", "EUR": "EUR", "GBP": "GBP", "JPY": "JPY", "元": "CNY",
    "C$": "CAD", "A$": "AUD",
}  # fmt: skip
_SYMBOL = "|".join(re.escape(symbol) for symbol in sorted(_SYMBOLS, key=len, reverse=True))

#: Number names that may stand between amount and currency: "R$ 1,5 milhão", "$3 million".
_SCALES = {
    "en": "thousand|million|billion|trillion|k|m|bn",
    "pt": "mil|milh[ãa]o|milh[õo]es|bilh[ãa]o|bilh[õo]es|trilh[ãa]o|trilh[õo]es|mi|bi",
    "es": "mil|mill[oó]n|millones|mil millones|billones",
    "fr": "mille|millions?|milliards?",
    "de": "Tausend|Millionen|Million|Milliarden|Milliarde|Mio\\.?|Mrd\\.?",
    "it": "mila|milioni|milione|miliardi|miliardo",
    "nl": "duizend|miljoen|miljard",
    "pl": "tys\\.?|tysięcy|mln|milion(?:y|ów)?|mld|miliard(?:y|ów)?",
    "ru": "тыс\\.?|тысяч[аи]?|млн|миллион(?:а|ов)?|млрд|миллиард(?:а|ов)?",
}
_SCALE_WORDS = {
    ("en", "k"): "thousand", ("en", "m"): "million", ("en", "bn"): "billion",
    ("pt", "mi"): "milhões", ("pt", "bi"): "bilhões",
    ("de", "mio"): "Millionen", ("de", "mrd"): "Milliarden",
    ("pl", "tys"): "tysięcy", ("pl", "mln"): "milionów", ("pl", "mld"): "miliardów",
    ("ru", "тыс"): "тысяч", ("ru", "млн"): "миллионов", ("ru", "млрд"): "миллиардов",
}  # fmt: skip
_OF = {"pt": "de", "es": "de", "fr": "de", "it": "di"}
_THOUSANDS = frozenset({"mil", "mille", "mila"})

#: currency -> language -> forms: one|other, or one|few|many (CLDR's plural categories)
_MAJOR = {
    "USD": {"en": "dollar|dollars", "pt": "dólar|dólares", "es": "dólar|dólares",
            "fr": "dollar|dollars", "de": "Dollar|Dollar", "it": "dollaro|dollari",
            "pl": "dolar|dolary|dolarów", "tr": "dolar|dolar", "ru": "доллар|доллара|долларов",
            "nl": "dollar|dollar", "cs": "dolar|dolary|dolarů", "ar": "دولار|دولار",
            "zh-cn": "美元|美元", "hu": "dollár|dollár", "ko": "달러|달러", "ja": "ドル|ドル",
            "hi": "डॉलर|डॉलर"},
    "GBP": {"en": "pound|pounds", "pt": "libra|libras", "es": "libra|libras",
            "fr": "livre|livres", "de": "Pfund|Pfund", "it": "sterlina|sterline",
            "pl": "funt|funty|funtów", "tr": "sterlin|sterlin", "ru": "фунт|фунта|фунтов",
            "nl": "pond|pond", "cs": "libra|libry|liber", "hu": "font|font", "ko": "파운드|파운드",
            "ja": "ポンド|ポンド", "hi": "पाउंड|पाउंड"},
    "BRL": {"pt": "real|reais", "en": "real|reais", "es": "real|reales"},
    "JPY": {"en": "yen|yen", "pt": "iene|ienes", "es": "yen|yenes", "fr": "yen|yens",
            "de": "Yen|Yen", "it": "yen|yen", "nl": "yen|yen", "zh-cn": "元|元"},
    "CNY": {"zh-cn": "元|元"},
    "RUB": {"ru": "рубль|рубля|рублей"},
    "PLN": {"pl": "złoty|złote|złotych"},
    "CZK": {"cs": "koruna|koruny|korun"},
    "HUF": {"hu": "forint|forint"},
    "KRW": {"ko": "원|원"},
    "INR": {"hi": "रुपया|रुपये", "en": "rupee|rupees"},
    "TRY": {"tr": "lira|lira"},
}  # fmt: skip
_CENTS = {
    "USD": {"en": "cent|cents", "pt": "centavo|centavos", "es": "centavo|centavos",
            "fr": "cent|cents", "de": "Cent|Cent", "it": "centesimo|centesimi",
            "pl": "cent|centy|centów", "tr": "sent|sent", "ru": "цент|цента|центов",
            "nl": "cent|cent", "cs": "cent|centy|centů", "ar": "سنت|سنت", "hu": "cent|cent",
            "hi": "सेंट|सेंट"},
    "EUR": {"pt": "cêntimo|cêntimos", "es": "céntimo|céntimos", "fr": "centime|centimes"},
    "GBP": {"en": "penny|pence", "pt": "pêni|pence", "es": "penique|peniques",
            "fr": "penny|pence", "de": "Penny|Pence", "it": "penny|pence",
            "pl": "pens|pensy|pensów", "ru": "пенс|пенса|пенсов", "nl": "penny|pence",
            "cs": "pence|pence|pencí", "tr": "peni|peni", "hu": "penny|penny"},
    "BRL": {"pt": "centavo|centavos"},
    "RUB": {"ru": "копейка|копейки|копеек"},
    "PLN": {"pl": "grosz|grosze|groszy"},
    "CZK": {"cs": "haléř|haléře|haléřů"},
    "INR": {"hi": "पैसा|पैसे", "en": "paisa|paise"},
    "TRY": {"tr": "kuruş|kuruş"},
    "CHF": {"de": "Rappen|Rappen", "fr": "centime|centimes", "it": "centesimo|centesimi"},
}  # fmt: skip
_CENT_LINKS = {"es": "con", "pl": "", "ru": "", "cs": "", "tr": "", "hu": "", "de": "", "ko": ""}
_WITHOUT_CENTS = frozenset({"JPY", "KRW", "HUF"})
#: Languages that say a price as a decimal: "三点五美元".
_DECIMAL_PRICES = frozenset({"zh-cn", "ja", "ko"})

#: sign -> CLDR unit
_UNITS = {
    "km/h": "speed-kilometer-per-hour", "kmh": "speed-kilometer-per-hour",
    "mph": "speed-mile-per-hour", "m/s": "speed-meter-per-second",
    "km²": "area-square-kilometer", "m²": "area-square-meter", "cm²": "area-square-centimeter",
    "km2": "area-square-kilometer", "m2": "area-square-meter",
    "m³": "volume-cubic-meter", "cm³": "volume-cubic-centimeter", "m3": "volume-cubic-meter",
    "km": "length-kilometer", "m": "length-meter", "cm": "length-centimeter",
    "mm": "length-millimeter", "nm": "length-nanometer", "mi": "length-mile",
    "ft": "length-foot", "ha": "area-hectare", "kg": "mass-kilogram", "g": "mass-gram",
    "mg": "mass-milligram", "t": "mass-tonne", "lb": "mass-pound", "lbs": "mass-pound",
    "oz": "mass-ounce", "l": "volume-liter", "L": "volume-liter", "ml": "volume-milliliter",
    "mL": "volume-milliliter", "cl": "volume-centiliter", "h": "duration-hour",
    "hrs": "duration-hour", "min": "duration-minute", "s": "duration-second",
    "ms": "duration-millisecond", "°C": "temperature-celsius", "ºC": "temperature-celsius",
    "℃": "temperature-celsius", "°F": "temperature-fahrenheit", "℉": "temperature-fahrenheit",
    "KB": "digital-kilobyte", "kB": "digital-kilobyte", "MB": "digital-megabyte",
    "GB": "digital-gigabyte", "TB": "digital-terabyte", "W": "power-watt", "kW": "power-kilowatt",
    "MW": "power-megawatt", "kWh": "energy-kilowatt-hour", "V": "electric-volt",
    "Hz": "frequency-hertz", "kHz": "frequency-kilohertz", "MHz": "frequency-megahertz",
    "GHz": "frequency-gigahertz", "kcal": "energy-kilocalorie", "км/ч": "speed-kilometer-per-hour",
    "км": "length-kilometer", "м": "length-meter", "см": "length-centimeter",
    "мм": "length-millimeter", "кг": "mass-kilogram", "г": "mass-gram", "л": "volume-liter",
    "мл": "volume-milliliter", "мин": "duration-minute", "ч": "duration-hour",
    "كم": "length-kilometer", "سم": "length-centimeter", "كغ": "mass-kilogram",
    "كجم": "mass-kilogram",
}  # fmt: skip
#: Chinese names that babel's data lacks in the long form; # is the number.
_CHINESE_UNITS = {
    "length-kilometer": "#公里", "length-meter": "#米", "length-centimeter": "#厘米",
    "length-millimeter": "#毫米", "volume-liter": "#升", "volume-milliliter": "#毫升",
    "area-square-meter": "#平方米", "area-square-kilometer": "#平方公里",
    "volume-cubic-meter": "#立方米", "area-hectare": "#公顷", "duration-hour": "#小时",
    "duration-minute": "#分钟", "duration-second": "#秒", "mass-tonne": "#吨",
    "speed-meter-per-second": "每秒#米", "angle-degree": "#度",
}  # fmt: skip
_UNIT = "|".join(re.escape(unit) for unit in sorted(_UNITS, key=len, reverse=True))
_UNIT_RE = re.compile(rf"(?<![\w.,])({SPACED_NUMBER})\s?({_UNIT})(?![\w²³/°])")
_DEGREE_RE = re.compile(rf"(?<![\w.,])({SPACED_NUMBER})\s?°(?!\w)")
_PERCENT_RE = re.compile(rf"(?<![\w.,])({SPACED_NUMBER})\s?%|%\s?({SPACED_NUMBER})")
_PERCENT_FORMS = {"ru": "процент|процента|процентов", "cs": "procento|procenta|procent"}
_PERCENT_FIRST = frozenset({"tr", "zh-cn"})


def expand_quantities(text: str, language: str) -> str:
    """Replaces money, percentages, measures and degrees with words."""

    def replace_percent(match: re.Match[str]) -> str:
        return _say_percent(parse_number(match[1] or match[2], language), language)

    def replace_unit(match: re.Match[str]) -> str:
        return _say_unit(parse_number(match[1], language), _UNITS[match[2]], language)

    def replace_degrees(match: re.Match[str]) -> str:
        return _say_unit(parse_number(match[1], language), "angle-degree", language)

    text = _expand_money(text, language)
    text = _PERCENT_RE.sub(replace_percent, text)
    text = _UNIT_RE.sub(replace_unit, text)
    return _DEGREE_RE.sub(replace_degrees, text)


@lru_cache(maxsize=32)
def _money_pattern(language: str) -> re.Pattern[str]:
    scale = rf"(?:\s?(?P<{{}}>{_SCALES.get(language, '(?!)')})(?!\w))?"
    return re.compile(
        rf"(?<![\w$])(?P<before>{_SYMBOL})\s?(?P<amount>{SPACED_NUMBER}){scale.format('scale')}"
        rf"|(?<![\w.,])(?P<amount_first>{SPACED_NUMBER}){scale.format('scale_first')}"
        rf"\s?(?P<after>{_SYMBOL})(?!\w)"
    )


def _expand_money(text: str, language: str) -> str:
    def replace(match: re.Match[str]) -> str:
        currency = _SYMBOLS[match["before"] or match["after"]]
        number = parse_number(match["amount"] or match["amount_first"], language)
        scale = match["scale"] or match["scale_first"]
        if scale:
            return _say_scaled(number, scale, currency, language)
        return _say_money(number, currency, language)

    return _money_pattern(language).sub(replace, text)


def _say_scaled(number: Number, scale: str, currency: str, language: str) -> str:
    key = scale.lower().rstrip(".")
    word = _SCALE_WORDS.get((language, key), scale)
    link = "" if key in _THOUSANDS else _OF.get(language, "")
    name = _currency_name(currency, 5e6, language)
    if link == "de" and language == "fr" and name[0] in "aeiou":
        return f"{read_number(number, language)} {word} d'{name}"
    spoken = read_number(number, language, word if number.value < 2 else "")
    return " ".join(part for part in (spoken, word, link, name) if part)


def _say_money(number: Number, currency: str, language: str) -> str:
    lexicon = LEXICON[language]
    decimals = number.decimals
    if (
        language in _DECIMAL_PRICES
        or len(decimals) > 2
        or (decimals and currency in _WITHOUT_CENTS)
    ):
        number = Number(number.whole, decimals.rstrip("0"))
        name = _currency_name(currency, number.value, language)
        return lexicon.join(read_number(number, language), name)
    cents = int(decimals.ljust(2, "0")) if decimals else 0
    whole = number.whole or "0"
    parts: list[str] = []
    if int(whole) or not cents:
        name = _currency_name(currency, int(whole), language)
        millions = int(whole) >= 10**6 and int(whole) % 10**6 == 0
        link = _OF.get(language, "") if millions else ""
        if link == "de" and language == "fr" and name[0] in "aeiou":
            link, name = "", f"d'{name}"
        parts.append(lexicon.join(read_digits_or_cardinal(whole, language, name), link, name))
    if cents:
        name = _cent_name(currency, cents, language)
        parts.append(lexicon.join(cardinal(cents, language, name), name))
    link = _CENT_LINKS.get(language, lexicon.and_word)
    return (f" {link} " if link else " ").join(parts)


def _currency_name(currency: str, count: float, language: str) -> str:
    forms = _MAJOR.get(currency, {}).get(language)
    if forms:
        return _plural_form(forms, count, language)
    from babel.numbers import get_currency_name

    name = get_currency_name(currency, count=count, locale=_locale(language))
    return name.lower() if language == "pt" else name


def _cent_name(currency: str, cents: int, language: str) -> str:
    forms = _CENTS.get(currency, {}).get(language) or _CENTS["USD"].get(language)
    return _plural_form(forms, cents, language) if forms else LEXICON[language].decimal_word


def _plural_form(forms: str, count: float, language: str) -> str:
    from babel import Locale

    options = forms.split("|")
    category = Locale.parse(_locale(language)).plural_form(abs(count))
    if category == "one":
        return options[0]
    fraction = "many" if language == "cs" else "other"  # CLDR's category of fractions
    if len(options) == 3 and category in {"few", fraction}:
        return options[1]
    return options[-1]


def _say_percent(number: Number, language: str) -> str:
    lexicon = LEXICON[language]
    spoken = read_number(number, language)
    if language in _PERCENT_FIRST:
        return lexicon.join(lexicon.percent, spoken)
    word = lexicon.percent
    if language in _PERCENT_FORMS:
        word = _plural_form(_PERCENT_FORMS[language], _plural_count(number), language)
    return lexicon.join(spoken, word)


def _say_unit(number: Number, unit: str, language: str) -> str:
    from babel.units import format_unit

    value = _plural_count(number)
    if language == "pt" and unit == "mass-kilogram":
        pattern = f"0 {_plural_form('quilo|quilos', value, language)}"
    elif language == "zh-cn" and unit in _CHINESE_UNITS:  # babel lacks their long patterns
        pattern = _CHINESE_UNITS[unit].replace("#", "0")
    else:
        pattern = format_unit(value, unit, length="long", locale=_locale(language))
    found = re.search(r"\d(?:[\d.,\u00a0\u202f]*\d)?", pattern)
    if not found:
        return str(pattern)
    noun = pattern[found.end() :].split()
    spoken = read_number(number, language, noun[0] if noun else "")
    return str(pattern[: found.start()] + spoken + pattern[found.end() :]).replace("/", " ")


def _plural_count(number: Number) -> float:
    return number.value if number.decimals else int(number.whole or 0)


def _locale(language: str) -> str:
    return CLDR_LOCALES.get(language, language)
