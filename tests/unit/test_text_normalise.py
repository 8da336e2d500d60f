"""Numbers, dates, times, money and signs as each language reads them out."""

from __future__ import annotations

import pytest

from app.text.normalise import normalise

PORTUGUESE = [
    ("R$ 1.234,56", "mil duzentos e trinta e quatro reais e cinquenta e seis centavos"),
    ("R$1", "um real"),
    ("R$ 0,50", "cinquenta centavos"),
    ("R$ 0,01", "um centavo"),
    ("R$ 2,00", "dois reais"),
    ("R$ 1.000.000", "um milhão de reais"),
    ("R$ 2,5 milhões", "dois vírgula cinco milhões de reais"),
    ("R$ 10 mil", "dez mil reais"),
    ("-R$ 5,00", "menos cinco reais"),
    ("US$ 3,50", "três dólares e cinquenta centavos"),
    ("€ 20", "vinte euros"),
    ("20 €", "vinte euros"),
    ("£ 2", "duas libras"),
    ("3,5%", "três vírgula cinco por cento"),
    ("100 %", "cem por cento"),
    ("às 14h30", "às catorze horas e trinta"),
    ("às 14:30", "às catorze horas e trinta"),
    ("à 1h", "à uma hora"),
    ("às 2h", "às duas horas"),
    ("às 21:05", "às vinte e uma horas e cinco"),
    ("2 horas", "duas horas"),
    ("2 reais", "dois reais"),
    ("2 dias", "dois dias"),
    ("1 casa", "uma casa"),
    ("21 meninas", "vinte e uma meninas"),
    ("200 pessoas", "duzentas pessoas"),
    ("1.500 pessoas", "mil e quinhentas pessoas"),
    ("25/12/2024", "vinte e cinco de dezembro de dois mil e vinte e quatro"),
    ("1/5/1999", "primeiro de maio de mil novecentos e noventa e nove"),
    ("2024-12-25", "vinte e cinco de dezembro de dois mil e vinte e quatro"),
    ("25.12.24", "vinte e cinco de dezembro de dois mil e vinte e quatro"),
    ("dia 25/12", "dia vinte e cinco de dezembro"),
    ("25 de dezembro de 2024", "vinte e cinco de dezembro de dois mil e vinte e quatro"),
    ("1º de maio", "primeiro de maio"),
    ("Dr. Silva", "doutor Silva"),
    ("Dra. Ana", "doutora Ana"),
    ("Sr. e Sra. Souza", "senhor e senhora Souza"),
    ("Av. Brasil", "avenida Brasil"),
    ("nº 5", "número cinco"),
    ("n.º 5", "número cinco"),
    ("1º lugar", "primeiro lugar"),
    ("2ª porta", "segunda porta"),
    ("21ª edição", "vigésima primeira edição"),
    ("p. ex. isso", "por exemplo isso"),
    ("etc.", "et cetera."),
    ("5 km", "cinco quilômetros"),
    ("70 kg", "setenta quilos"),
    ("1,5 kg", "um vírgula cinco quilo"),
    ("25°C", "vinte e cinco graus Celsius"),
    ("-5 °C", "menos cinco graus Celsius"),
    ("120 km/h", "cento e vinte quilômetros por hora"),
    ("50 m²", "cinquenta metros quadrados"),
    ("3,14159", "três vírgula um quatro um cinco nove"),
    ("0,05", "zero vírgula zero cinco"),
    ("1.234.567", "um milhão duzentos e trinta e quatro mil quinhentos e sessenta e sete"),
    ("10 000", "dez mil"),
    ("10-20", "dez a vinte"),
    ("1/2 xícara", "meia xícara"),
    ("3/4", "três quartos"),
    ("2 + 2 = 4", "dois mais dois igual a quatro"),
    ("COVID-19", "COVID dezenove"),
    ("H2O", "H dois O"),
    ("ana_b@exemplo.com.br", "ana underline b arroba exemplo ponto com ponto br"),
    ("https://www.exemplo.com/a", "www ponto exemplo ponto com barra a"),
    ("(11) 98765-4321",
     "um um, nove oito sete seis cinco, quatro três dois um"),
    ("123.456.789-01",
     "um dois três, quatro cinco seis, sete oito nove, zero um"),
    ("12345678901", "um dois três quatro cinco seis sete oito nove zero um"),
    ("007", "zero zero sete"),
    ("25 dez. 2024", "vinte e cinco de dezembro de dois mil e vinte e quatro"),
    ("Art. 5º, § 2º", "artigo quinto, parágrafo segundo"),
    ("S. Paulo, R. Augusta, 100", "São Paulo, rua Augusta, cem"),
    ("Tel.: 3333 4444", "telefone: três três três três, quatro quatro quatro quatro"),
    ("5-10 km", "cinco a dez quilômetros"),
]  # fmt: skip

OTHERS = [
    ("en", "$1,234.56", "one thousand two hundred and thirty-four dollars and fifty-six cents"),
    ("en", "$1", "one dollar"),
    ("en", "£3.01", "three pounds and one penny"),
    ("en", "$3.5 million", "three point five million dollars"),
    ("en", "12/25/2024", "December twenty-fifth, twenty twenty-four"),
    ("en", "December 25, 2024", "December twenty-fifth, twenty twenty-four"),
    ("en", "25 December 2024", "the twenty-fifth of December twenty twenty-four"),
    ("en", "in 1984", "in nineteen eighty-four"),
    ("en", "1984 people", "one thousand nine hundred and eighty-four people"),
    ("en", "the 1990s", "the nineteen nineties"),
    ("en", "2:30 pm", "two thirty p m"),
    ("en", "14:05", "fourteen oh five"),
    ("en", "22nd", "twenty-second"),
    ("en", "50%", "fifty percent"),
    ("en", "1 kg", "one kilogram"),
    ("en", "Dr. No. 5", "doctor number five"),
    ("en", "He said no. 5 left", "He said number five left"),
    ("en", "192.168.0.1",
     "one hundred and ninety-two dot one hundred and sixty-eight dot zero dot one"),
    ("en", "me@x.com & co", "me at x dot com and co"),
    ("en", "Call 555-1234.", "Call five five five, one two three four."),
    ("en", "C# #5 #love", "C sharp number five hashtag love"),
    ("en", ".5", "zero point five"),
    ("en", "Main St. is by St. Mary's", "Main street is by saint Mary's"),
    ("en", "Jan. 5, 2022 and you may 5 do", "January fifth, twenty twenty-two and you may five do"),
    ("en", "1-800-555-1234",
     "one, eight zero zero, five five five, one two three four"),
    ("es", "1/2 taza;", "media taza;"),
    ("de", "im Jahr 1984", "im Jahr neunzehnhundertvierundachtzig"),
    ("es", "1.234,56 €", "mil doscientos treinta y cuatro euros con cincuenta y seis céntimos"),
    ("es", "21 euros", "veintiún euros"),
    ("es", "200 personas", "doscientas personas"),
    ("es", "el 1.º de mayo", "el primero de mayo"),
    ("es", "1er piso", "primer piso"),
    ("es", "25/12/2024", "veinticinco de diciembre de dos mil veinticuatro"),
    ("es", "Sra. López", "señora López"),
    ("fr", "1 234,56 €", "mille deux cent trente-quatre euros et cinquante-six centimes"),
    ("fr", "14h30", "quatorze heures trente"),
    ("fr", "le 1er mai 2024", "le premier mai deux mille vingt-quatre"),
    ("fr", "5 millions €", "cinq millions d'euros"),
    ("fr", "2e étage", "deuxième étage"),
    ("fr", "1 heure", "une heure"),
    ("fr", "M. Dupont", "monsieur Dupont"),
    ("de", "3,5 %", "drei Komma fünf Prozent"),
    ("de", "am 25. Dezember 2024", "am fünfundzwanzigsten Dezember zweitausendvierundzwanzig"),
    ("de", "14.30 Uhr", "vierzehn Uhr dreißig"),
    ("de", "5 Mio. €", "fünf Millionen Euro"),
    ("de", "z. B. so", "zum Beispiel so"),
    ("de", "1 Stunde", "eine Stunde"),
    ("it", "€ 1.234,56", "milleduecentotrentaquattro euro e cinquantasei centesimi"),
    ("it", "alle 14.30", "alle quattordici e trenta"),
    ("it", "Sig.ra Bianchi", "signora Bianchi"),
    ("pl", "25 grudnia 2024",
     "dwudziestego piątego grudnia dwa tysiące dwudziestego czwartego roku"),
    ("pl", "o 14:30", "o czternastej trzydzieści"),
    ("pl", "2 zł i 5 zł", "dwa złote i pięć złotych"),
    ("pl", "3 km i 5 km", "trzy kilometry i pięć kilometrów"),
    ("tr", "%14", "yüzde on dört"),
    ("tr", "21. yüzyıl", "yirmi birinci yüzyıl"),
    ("ru", "1 %, 2 %, 5 %", "один процент, два процента, пять процентов"),
    ("ru", "25 декабря 2024 г.",
     "двадцать пятое декабря две тысячи двадцать четвёртого года"),
    ("ru", "2 минуты", "две минуты"),
    ("ru", "21 ₽", "двадцать один рубль"),
    ("nl", "€ 1.234,56", "duizendtweehonderdvierendertig euro en zesenvijftig cent"),
    ("nl", "om 14:30", "om veertien uur dertig"),
    ("cs", "25. prosince 2024", "dvacátého pátého prosince dva tisíce dvacet čtyři"),
    ("cs", "2 Kč a 5 Kč", "dvě koruny a pět korun"),
    ("ar", "3.5٪", "ثلاثة فاصلة خمسة بالمئة"),
    ("ar", "١٢٣", "مائة و ثلاثة و عشرون"),
    ("zh-cn", "2024年12月25日14:30", "二零二四年十二月二十五日十四点三十分"),
    ("zh-cn", "占3.5%", "占百分之三点五"),
    ("zh-cn", "付了¥20。2个人", "付了二十元。两个人"),
    ("zh-cn", "10005", "一万零五"),
    ("hu", "2024. december 25-én", "kétezer-huszonnégy december huszonötödikén"),
    ("hu", "12,5", "tizenkettő egész öt tized"),
    ("ko", "3시간 5명 20살", "세 시간 다섯 명 스무 살"),
    ("ko", "6월 10월", "유월 시월"),
    ("ja", "2024年12月25日", "二千二十四年十二月二十五日"),
    ("ja", "1/2", "二分の一"),
    ("hi", "₹1,23,456.50", "एक लाख तेईस हज़ार चार सौ छप्पन रुपये और पचास पैसे"),
    ("hi", "५० सैनिक", "पचास सैनिक"),
]  # fmt: skip

PLAIN = [
    ("en", "Well, that's all: nothing to read out - or is it?"),
    ("pt", "São Paulo não para; à noite, as crianças dormem. Para quê?"),
    ("de", "Die Straße ist größer, sagte er. Und dann?"),
    ("zh-cn", "你好，世界。一二三！"),
    ("ja", "「なぜ」と言った。"),
    ("hi", "यह एक वाक्य है।"),
]


@pytest.mark.parametrize(("written", "spoken"), PORTUGUESE)
def test_portuguese(written: str, spoken: str) -> None:
    assert normalise(written, "pt") == spoken


@pytest.mark.parametrize(("language", "written", "spoken"), OTHERS)
def test_other_languages(language: str, written: str, spoken: str) -> None:
    assert normalise(written, language) == spoken


@pytest.mark.parametrize(("language", "text"), PLAIN)
def test_plain_text_stays(language: str, text: str) -> None:
    assert normalise(text, language) == text


@pytest.mark.parametrize("language", ["en", "pt"])
@pytest.mark.parametrize(
    "text", ["99/99/9999", "31/13/2024", "25:61", "1,2,3", "1.2.3.4.5", "5%%", "$", "@", "9" * 40]
)
def test_odd_numbers_are_still_words(language: str, text: str) -> None:
    spoken = normalise(f"x {text} y", language)
    assert not any(char.isdigit() for char in spoken)
