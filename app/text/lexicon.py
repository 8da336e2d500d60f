"""The small words that signs are read as, by language. Tables only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Lexicon:
    """How one language reads its signs."""

    #: what parts whole and decimals in writing
    decimal_separator: str
    #: what is said for it
    decimal_word: str
    minus: str
    percent: str
    degrees: str
    and_word: str
    at: str
    dot: str
    slash: str
    hyphen: str
    underscore: str
    plus: str
    equals: str
    number_sign: str
    times: str
    #: between the ends of a range: "10-20"
    to: str
    #: between numerator and denominator: "3/8"
    over: str
    #: whether words are parted by spaces
    spaced: bool = True

    def join(self, *words: str) -> str:
        """Puts words next to each other as the language does."""
        return (" " if self.spaced else "").join(word for word in words if word)


#: XTTS code -> words.
LEXICON: Mapping[str, Lexicon] = {
    "en": Lexicon(".", "point", "minus", "percent", "degrees", "and", "at", "dot", "slash", "dash",
                  "underscore", "plus", "equals", "number", "times", "to", "over"),
    "es": Lexicon(",", "coma", "menos", "por ciento", "grados", "y", "arroba", "punto", "barra",
                  "guion", "guion bajo", "más", "igual a", "número", "por", "a", "sobre"),
    "fr": Lexicon(",", "virgule", "moins", "pour cent", "degrés", "et", "arobase", "point",
                  "barre oblique", "tiret", "tiret bas", "plus", "égale", "numéro", "fois", "à",
                  "sur"),
    "de": Lexicon(",", "Komma", "minus", "Prozent", "Grad", "und", "ät", "Punkt", "Schrägstrich",
                  "Bindestrich", "Unterstrich", "plus", "gleich", "Nummer", "mal", "bis", "durch"),
    "it": Lexicon(",", "virgola", "meno", "per cento", "gradi", "e", "chiocciola", "punto", "barra",
                  "trattino", "trattino basso", "più", "uguale", "numero", "per", "a", "su"),
    "pt": Lexicon(",", "vírgula", "menos", "por cento", "graus", "e", "arroba", "ponto", "barra",
                  "hífen", "underline", "mais", "igual a", "número", "vezes", "a", "sobre"),
    "pl": Lexicon(",", "przecinek", "minus", "procent", "stopni", "i", "małpa", "kropka", "ukośnik",
                  "myślnik", "podkreślnik", "plus", "równa się", "numer", "razy", "do", "przez"),
    "tr": Lexicon(",", "virgül", "eksi", "yüzde", "derece", "ve", "et", "nokta", "bölü", "tire",
                  "alt çizgi", "artı", "eşittir", "numara", "çarpı", "ila", "bölü"),
    "ru": Lexicon(",", "запятая", "минус", "процентов", "градусов", "и", "собака", "точка", "слеш",
                  "дефис", "нижнее подчёркивание", "плюс", "равно", "номер", "умножить на", "до",
                  "дробь"),
    "nl": Lexicon(",", "komma", "min", "procent", "graden", "en", "apenstaartje", "punt",
                  "schuine streep", "streepje", "laag streepje", "plus", "is", "nummer", "keer",
                  "tot", "gedeeld door"),
    "cs": Lexicon(",", "celá", "minus", "procent", "stupňů", "a", "zavináč", "tečka", "lomítko",
                  "pomlčka", "podtržítko", "plus", "rovná se", "číslo", "krát", "až", "lomeno"),
    "ar": Lexicon(".", "فاصلة", "ناقص", "بالمئة", "درجة", "و", "آت", "نقطة", "شرطة مائلة", "شرطة",
                  "شرطة سفلية", "زائد", "يساوي", "رقم", "ضرب", "إلى", "على"),
    "zh-cn": Lexicon(".", "点", "负", "百分之", "度", "和", "艾特", "点", "斜杠", "杠", "下划线",
                     "加", "等于", "号", "乘", "到", "比", spaced=False),
    "hu": Lexicon(",", "egész", "mínusz", "százalék", "fok", "és", "kukac", "pont", "per jel",
                  "kötőjel", "alsóvonás", "plusz", "egyenlő", "szám", "szor", "től", "per"),
    "ko": Lexicon(".", "점", "마이너스", "퍼센트", "도", "그리고", "골뱅이", "점", "슬래시", "대시",
                  "밑줄", "더하기", "는", "번호", "곱하기", "에서", "대"),
    "ja": Lexicon(".", "点", "マイナス", "パーセント", "度", "と", "アット", "ドット", "スラッシュ",
                  "ハイフン", "アンダーバー", "プラス", "イコール", "番号", "かける", "から", "対",
                  spaced=False),
    "hi": Lexicon(".", "दशमलव", "ऋण", "प्रतिशत", "डिग्री", "और", "एट", "डॉट", "स्लैश", "डैश",
                  "अंडरस्कोर", "प्लस", "बराबर", "नंबर", "गुणा", "से", "बटा"),
}  # fmt: skip
