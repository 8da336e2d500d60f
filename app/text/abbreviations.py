"""Abbreviations with a stop: what they stand for, and that the stop ends no sentence.

Tables only, by language; matched without regard to case, at the start of a word.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

#: abbreviation without its last stop -> the words
_EXPANSIONS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "mr": "mister", "mrs": "missus", "ms": "miz", "dr": "doctor", "drs": "doctors",
        "prof": "professor", "st": "saint", "jr": "junior", "sr": "senior", "rev": "reverend",
        "gen": "general", "lt": "lieutenant", "sgt": "sergeant", "capt": "captain",
        "col": "colonel", "maj": "major", "hon": "honorable", "gov": "governor",
        "sen": "senator", "rep": "representative", "ltd": "limited", "inc": "incorporated",
        "corp": "corporation", "co": "company", "dept": "department", "approx": "approximately",
        "vs": "versus", "etc": "et cetera", "e.g": "for example", "i.e": "that is",
        "ave": "avenue", "blvd": "boulevard", "mt": "mount", "ft": "fort", "esq": "esquire",
    },
    "pt": {
        "sr": "senhor", "sra": "senhora", "srs": "senhores", "sras": "senhoras",
        "srta": "senhorita", "dr": "doutor", "dra": "doutora", "drs": "doutores",
        "dras": "doutoras", "prof": "professor", "profa": "professora", "profª": "professora",
        "prof.ª": "professora", "eng": "engenheiro", "engª": "engenheira", "av": "avenida",
        "r": "rua", "al": "alameda", "pç": "praça", "pça": "praça", "rod": "rodovia",
        "trav": "travessa", "apto": "apartamento", "ap": "apartamento", "bl": "bloco",
        "tel": "telefone", "cel": "celular", "pág": "página", "págs": "páginas",
        "p.ex": "por exemplo", "p. ex": "por exemplo", "etc": "et cetera",
        "exmo": "excelentíssimo", "exma": "excelentíssima", "sto": "santo", "sta": "santa",
        "cia": "companhia", "ltda": "limitada", "dep": "deputado", "min": "ministro",
        "gen": "general", "cap": "capitão", "jr": "júnior", "d": "dom", "dna": "dona",
        "a.c": "antes de Cristo", "d.c": "depois de Cristo", "séc": "século",
        "obs": "observação", "aprox": "aproximadamente", "depto": "departamento",
        "art": "artigo", "s": "São", "a.a": "ao ano",
        "vol": "volume", "ed": "edição", "v. exa": "vossa excelência",
    },
    "es": {
        "sr": "señor", "sra": "señora", "sres": "señores", "srta": "señorita", "dr": "doctor",
        "dra": "doctora", "d": "don", "dña": "doña", "prof": "profesor", "profa": "profesora",
        "ud": "usted", "uds": "ustedes", "vd": "usted", "av": "avenida", "avda": "avenida",
        "c": "calle", "tel": "teléfono", "pág": "página", "págs": "páginas",
        "p. ej": "por ejemplo", "p.ej": "por ejemplo", "etc": "etcétera", "sto": "santo",
        "sta": "santa", "gral": "general", "ing": "ingeniero", "lic": "licenciado",
        "cía": "compañía", "ee. uu": "Estados Unidos", "ee.uu": "Estados Unidos",
        "ltda": "limitada", "jr": "júnior", "aprox": "aproximadamente",
        "a.c": "antes de Cristo", "d.c": "después de Cristo", "dpto": "departamento",
    },
    "fr": {
        "m": "monsieur", "mm": "messieurs", "mr": "monsieur", "dr": "docteur",
        "prof": "professeur", "pr": "professeur", "st": "saint", "ste": "sainte",
        "av": "avenue", "bd": "boulevard", "tél": "téléphone", "p. ex": "par exemple",
        "p.ex": "par exemple", "etc": "et cetera", "env": "environ", "cie": "compagnie",
        "jr": "junior", "c.-à-d": "c'est-à-dire", "mme": "madame", "mlle": "mademoiselle",
    },
    "de": {
        "dr": "Doktor", "prof": "Professor", "hr": "Herr", "fr": "Frau", "st": "Sankt",
        "str": "Straße", "nr": "Nummer", "z.b": "zum Beispiel", "z. b": "zum Beispiel",
        "d.h": "das heißt", "d. h": "das heißt", "u.a": "unter anderem",
        "u. a": "unter anderem", "bzw": "beziehungsweise", "ca": "circa", "usw": "und so weiter",
        "etc": "et cetera", "evtl": "eventuell", "ggf": "gegebenenfalls", "inkl": "inklusive",
        "tel": "Telefon", "jh": "Jahrhundert", "mio": "Millionen", "mrd": "Milliarden",
        "abs": "Absatz", "vgl": "vergleiche", "dipl": "Diplom", "ing": "Ingenieur",
        "v.chr": "vor Christus", "n.chr": "nach Christus", "jr": "Junior", "bspw": "beispielsweise",
    },
    "it": {
        "sig": "signor", "sigg": "signori",
        "dr": "dottor", "dott": "dottor", "prof": "professor",
        "avv": "avvocato", "ing": "ingegner", "arch": "architetto",
        "geom": "geometra", "rag": "ragionier", "on": "onorevole", "s": "san", "sta": "santa",
        "tel": "telefono",
        "pag": "pagina", "es": "esempio", "ecc": "eccetera", "jr": "junior",
        "a.c": "avanti Cristo", "d.c": "dopo Cristo", "ca": "circa",
    },
    "pl": {
        "dr": "doktor", "prof": "profesor", "inż": "inżynier", "mgr": "magister",
        "ul": "ulica", "al": "aleja", "pl": "plac", "np": "na przykład", "m.in": "między innymi",
        "tzn": "to znaczy", "itd": "i tak dalej", "itp": "i tym podobne", "ok": "około",
        "św": "święty", "ks": "ksiądz", "gen": "generał", "r": "roku", "w": "wieku",
        "godz": "godzina", "tel": "telefon", "tys": "tysięcy", "jr": "junior", "tzw": "tak zwany",
    },
    "tr": {
        "dr": "doktor", "prof": "profesör", "doç": "doçent", "av": "avukat", "sn": "sayın",
        "müh": "mühendis", "cad": "cadde", "sok": "sokak", "mah": "mahalle", "tel": "telefon",
        "vb": "ve benzeri", "vs": "vesaire", "örn": "örneğin", "yy": "yüzyıl", "öğr": "öğretim",
        "gör": "görevlisi", "apt": "apartmanı", "no": "numara",
    },
    "ru": {
        "г": "город", "ул": "улица", "д": "дом", "кв": "квартира", "пр": "проспект",
        "т.е": "то есть", "т. е": "то есть", "т.д": "так далее", "т. д": "так далее",
        "т.п": "тому подобное", "т. п": "тому подобное", "т.к": "так как", "т. к": "так как",
        "др": "другие", "проф": "профессор", "им": "имени", "руб": "рублей", "коп": "копеек",
        "тыс": "тысяч", "млн": "миллионов", "млрд": "миллиардов", "см": "смотри",
        "стр": "страница", "тел": "телефон", "гл": "глава", "напр": "например",
    },
    "nl": {
        "dhr": "de heer", "mevr": "mevrouw", "mw": "mevrouw", "dr": "dokter",
        "drs": "doctorandus", "prof": "professor", "ir": "ingenieur", "ing": "ingenieur",
        "jhr": "jonkheer", "bijv": "bijvoorbeeld", "bv": "bijvoorbeeld", "d.w.z": "dat wil zeggen",
        "enz": "enzovoort", "o.a": "onder andere", "ca": "circa", "nr": "nummer",
        "tel": "telefoon", "blz": "bladzijde", "m.b.t": "met betrekking tot",
        "a.u.b": "alstublieft",
        "incl": "inclusief", "excl": "exclusief", "max": "maximaal", "t.o.v": "ten opzichte van",
    },
    "cs": {
        "dr": "doktor", "ing": "inženýr", "mgr": "magistr", "bc": "bakalář", "prof": "profesor",
        "doc": "docent", "mudr": "doktor", "judr": "doktor", "phdr": "doktor", "p": "pan",
        "ul": "ulice", "nám": "náměstí", "tř": "třída", "č": "číslo", "např": "například",
        "atd": "a tak dále", "apod": "a podobně", "tzv": "takzvaný", "tj": "to jest",
        "tel": "telefon", "str": "strana", "sv": "svatý", "mj": "mimo jiné", "cca": "cirka",
    },
    "hu": {
        "dr": "doktor", "prof": "professzor", "ifj": "ifjabb", "id": "idősebb", "özv": "özvegy",
        "u": "utca", "pl": "például", "kb": "körülbelül", "ill": "illetve", "stb": "satöbbi",
        "tel": "telefon", "szt": "szent", "kft": "kft", "ún": "úgynevezett", "vö": "vesd össze",
    },
    "ar": {"د": "دكتور", "أ": "أستاذ", "م": "مهندس", "أ.د": "أستاذ دكتور"},
    "hi": {"डॉ": "डॉक्टर", "श्री": "श्री", "प्रो": "प्रोफ़ेसर", "रु": "रुपये", "पं": "पंडित"},
}  # fmt: skip

#: forms without a stop: "nº 5", "Г-н Иванов"
_BARE: Mapping[str, Mapping[str, str]] = {
    "pt": {"nº": "número", "n°": "número", "n.º": "número", "n.os": "números", "№": "número",
           "§": "parágrafo", "sr.ª": "senhora", "d.ª": "dona", "dr.ª": "doutora"},
    "es": {"nº": "número", "n°": "número", "n.º": "número", "№": "número",
           "c/": "calle ", "§": "párrafo", "m.ª": "María", "d.ª": "doña"},
    "fr": {"n°": "numéro", "nº": "numéro", "№": "numéro", "mme": "madame", "mmes": "mesdames",
           "mlle": "mademoiselle", "mgr": "monseigneur", "dr": "docteur", "bd": "boulevard"},
    "it": {"n°": "numero", "nº": "numero", "n.º": "numero", "№": "numero",
           "sig.ra": "signora", "sig.na": "signorina", "dott.ssa": "dottoressa",
           "prof.ssa": "professoressa", "p.zza": "piazza", "v.le": "viale", "c.so": "corso"},
    "en": {"№": "number", "nº": "number", "w/o": "without", "vs": "versus", "§": "section"},
    "de": {"№": "Nummer", "§": "Paragraf"},
    "ru": {"г-н": "господин", "г-жа": "госпожа", "д-р": "доктор", "№": "номер", "р-н": "район"},
    "pl": {"№": "numer"}, "cs": {"№": "číslo"}, "nl": {"№": "nummer"}, "tr": {"№": "numara"},
    "hu": {"№": "szám"}, "ar": {"№": "رقم"}, "hi": {"№": "संख्या"},
}  # fmt: skip

#: "No. 5" and its like: short words of their own, so only before a number
_BEFORE_NUMBER: Mapping[str, Mapping[str, str]] = {
    "en": {"no": "number", "nos": "numbers", "p": "page", "pp": "pages", "fig": "figure",
           "vol": "volume", "ch": "chapter"},
    "pt": {"n": "número", "nr": "número", "num": "número", "núm": "número", "p": "página",
           "fig": "figura"},
    "es": {"n": "número", "núm": "número", "p": "página", "art": "artículo", "fig": "figura"},
    "fr": {"p": "page", "art": "article", "fig": "figure"},
    "de": {"s": "Seite", "art": "Artikel", "abb": "Abbildung"},
    "it": {"n": "numero", "p": "pagina", "art": "articolo", "fig": "figura"},
    "pl": {"nr": "numer", "s": "strona", "rys": "rysunek"},
    "nl": {"p": "pagina", "fig": "figuur", "art": "artikel"},
    "cs": {"s": "strana", "obr": "obrázek"},
    "tr": {"s": "sayfa"},
    "ru": {"п": "пункт", "ст": "статья", "рис": "рисунок"},
    "hu": {"sz": "szám"},
}  # fmt: skip

#: Abbreviations that more often than not end their sentence or list.
_CLOSING = frozenset(
    {"etc", "usw", "ecc", "itd", "itp", "enz", "atd", "apod", "stb", "vb", "vs", "т.д", "т. д",
     "т.п", "т. п", "inc", "ltd", "jr", "др", "руб", "коп", "r"}
)  # fmt: skip

#: Short common words: their stop ends a sentence more often than an abbreviation, unless the
#: form is capitalised or stands before a number.
_CAPITALISED_ONLY = {
    "en": frozenset({"co", "gen", "rep", "hon", "ms", "col", "mt", "ft"}),
    "pt": frozenset(
        {"s", "r", "d", "al", "min", "cap", "gen", "dep", "ed", "ap", "bl", "cel", "art"}
    ),
    "es": frozenset({"d", "c"}),
    "it": frozenset({"s", "on", "es"}),
    "fr": frozenset({"m", "mm"}),
    "de": frozenset({"fr"}),
    "nl": frozenset({"bv", "max"}),
    "hu": frozenset({"u"}),
    "tr": frozenset({"no"}),
}


@lru_cache(maxsize=4096)
def ends_in_abbreviation(token: str, language: str) -> bool:
    """Whether the last word of a text is an abbreviation or an initial with its stop.

    Args:
        token: a word with its punctuation, such as "Dr." or "(J.".
        language: an XTTS code.
    """
    if not token.endswith("."):
        return False
    word = token[:-1].lstrip("([{\"'¿¡«“-–—")
    if len(word) == 1 and word.isalpha() and word.isupper():
        return True
    key = word.lower()
    if key in _CLOSING:
        return False
    if key in _spaced_parts(language):
        return True
    known = key in _EXPANSIONS.get(language, {}) or key in _BEFORE_NUMBER.get(language, {})
    if key in _CAPITALISED_ONLY.get(language, ()):
        return word[:1].isupper()
    if (
        len(key) > 1
        and key in _BEFORE_NUMBER.get(language, {})
        and key not in _EXPANSIONS.get(language, {})
    ):
        return word[:1].isupper() or key != "no"
    return known or bool(re.fullmatch(r"(?:[^\W\d_]\.)+[^\W\d_]", word))


@lru_cache(maxsize=32)
def _spaced_parts(language: str) -> frozenset[str]:
    """The parts of abbreviations that are written with a space, such as "z. B."."""
    spaced = (key for key in _EXPANSIONS.get(language, {}) if " " in key)
    return frozenset(part.rstrip(".") for key in spaced for part in key.split())


#: "Main St." is a street, "St. Mary" is not.
_STREET_RE = re.compile(r"(?<=[a-z'] )St\.(?!\s+[A-Z])")


@lru_cache(maxsize=32)
def _patterns(language: str) -> tuple[re.Pattern[str], ...]:
    dotted = _alternatives(_EXPANSIONS.get(language, {}))
    bare = _alternatives(_BARE.get(language, {}))
    numbered = _alternatives(_BEFORE_NUMBER.get(language, {}))
    return (
        re.compile(rf"(?<![\w.])({bare})(?![\w.])", re.IGNORECASE),
        re.compile(rf"(?<![\w.])({numbered})\.(?=\s?\d)", re.IGNORECASE),
        re.compile(rf"(?<![\w.])({dotted})\.(\s*\Z|(?=\s+[A-ZÀ-ÝА-Я]))?", re.IGNORECASE),
    )


def _alternatives(table: Mapping[str, str]) -> str:
    keys = sorted(table, key=len, reverse=True)
    return "|".join(re.escape(key) for key in keys) or r"(?!)"


def expand_abbreviations(text: str, language: str) -> str:
    """Replaces known abbreviations with their words; a stop that also ends the text stays."""
    bare, numbered, dotted = _patterns(language)

    def replace_dotted(match: re.Match[str]) -> str:
        word = match[1]
        key = word.lower()
        if key in _CAPITALISED_ONLY.get(language, ()) and not word[:1].isupper():
            return match[0]
        ends_text = match[2] is not None and match.end() == len(text)
        return _EXPANSIONS[language][key] + ("." if ends_text else "")

    if language == "en":
        text = _STREET_RE.sub("street", text)
    text = bare.sub(lambda match: _BARE[language][match[1].lower()], text)
    text = numbered.sub(lambda match: _BEFORE_NUMBER[language][match[1].lower()], text)
    return dotted.sub(replace_dotted, text)
