"""Texts in many scripts and of every length, for comparing one encoder with another."""

from typing import Final

#: One sentence in each of 18 scripts, written for this test.
SCRIPTS: Final[dict[str, str]] = {
    "Latin": "After the rain the river rises and the boats stay in the harbour.",
    "Cyrillic": "После дождя река поднимается, и лодки остаются в гавани.",
    "Greek": "Μετά τη βροχή το ποτάμι φουσκώνει και οι βάρκες μένουν στο λιμάνι.",  # noqa: RUF001 (Greek)
    "Han": "雨后河水上涨,船只都停在港口里。",
    "Kana": "あめのあと、かわのみずがふえて、ふねはみなとにのこる。",
    "Hangul": "비가 온 뒤 강물이 불어나고 배들은 항구에 머문다.",
    "Arabic": "بعد المطر يرتفع النهر وتبقى القوارب في الميناء.",
    "Hebrew": "אחרי הגשם הנהר עולה והסירות נשארות בנמל.",
    "Devanagari": "बारिश के बाद नदी बढ़ जाती है और नावें बंदरगाह में रहती हैं।",
    "Bengali": "বৃষ্টির পরে নদী বাড়ে আর নৌকাগুলো বন্দরে থাকে।",
    "Tamil": "மழைக்குப் பிறகு ஆறு உயர்கிறது, படகுகள் துறைமுகத்தில் இருக்கின்றன.",
    "Telugu": "వర్షం తరువాత నది పెరుగుతుంది, పడవలు ఓడరేవులో ఉంటాయి.",
    "Thai": "หลังฝนตกแม่น้ำสูงขึ้นและเรือจอดอยู่ในท่าเรือ",
    "Georgian": "წვიმის შემდეგ მდინარე იმატებს და ნავები ნავსადგურში რჩება.",
    "Armenian": "Անձրևից հետո գետը բարձրանում է, և նավակները մնում են նավահանգստում։",  # noqa: RUF001 (Armenian)
    "Ethiopic": "ከዝናብ በኋላ ወንዙ ይሞላል ጀልባዎቹም በወደቡ ይቆያሉ።",
    "Khmer": "ក្រោយភ្លៀង ទន្លេឡើង ហើយទូកនៅក្នុងកំពង់ផែ។",
    "Sinhala": "වැස්සෙන් පසු ගඟ ඉහළ යයි, බෝට්ටු වරායේ රැඳේ.",
}
#: How often a sentence is repeated in its second text; the last of them passes 512 tokens everywhere.
_REPEATS: Final = (2, 3, 5, 8, 13, 64)


def parity_texts() -> list[tuple[str, str]]:
    """Return (script, text) pairs: a single character, a sentence and a longer text of every script."""
    texts = []
    for number, (script, sentence) in enumerate(SCRIPTS.items()):
        repeated = " ".join([sentence] * _REPEATS[number % len(_REPEATS)])
        texts += [(script, sentence[0]), (script, sentence), (script, repeated)]
    return texts
