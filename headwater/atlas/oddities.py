"""Pages that are no articles: too short, in another language, or not readable as HTML."""

from __future__ import annotations

import random

from headwater.atlas.documents import Document, paragraph
from headwater.atlas.language import Language
from headwater.atlas.world import Entity

SHORT = {"en": ("Coming soon.", "See the map of {s}.", "Photo: {s} in the morning.", "This page about {s} is empty.",
                "Page not found.", "{s}, part two, will follow."),
         "zh": ("敬请期待。", "请看{s}地图。", "图：清晨的{s}。", "这一页还没有内容。", "页面不存在。",
                "{s}，下期再续。")}
FRENCH = ("La page consacrée à {s} est encore en cours de traduction.",
          "Les voyageurs qui arrivent au printemps trouvent des chemins boueux et des auberges pleines.",
          "On raconte ici beaucoup d'histoires, mais peu de gens les ont vérifiées.",
          "Le marché ouvre tôt le matin et ferme quand il n'y a plus de pain.",
          "Nous remercions nos lecteurs pour leurs lettres et leurs photographies.",
          "Pour plus de renseignements, adressez-vous au bureau de la rédaction.")
JAPANESE = ("{s}についてのページは、まだ翻訳の途中です。", "春に訪れる旅人は、ぬかるんだ道とにぎやかな宿に出会います。",
            "ここにはたくさんの話が伝わっていますが、確かめた人はあまりいません。",
            "市場は朝早く開き、パンがなくなると閉まります。",
            "お手紙と写真を送ってくださった読者のみなさまに感謝します。",
            "くわしいことは編集部までお問い合わせください。")
BROKEN = {"en": ("binary", "pdf", "bad_utf8"), "zh": ("gb18030", "binary", "pdf", "bad_utf8")}
"""What is wrong with each broken page, in turn. A GB18030 page is declared as such and can be read."""


def too_short(language: Language, entity: Entity, key: str, rng: random.Random) -> Document:
    sentence = language.named(rng.choice(SHORT[language.code]), entity)
    title = language.named(rng.choice(language.prose.TITLES), entity)
    return Document(key, language.code, title, (paragraph(sentence),), "too_short", (entity.id,), planted=(sentence,))


def other_language(language: Language, entity: Entity, key: str, index: int, rng: random.Random) -> Document:
    """A short page in French or Japanese among the pages of this language."""
    written_in, sentences = (("fr", FRENCH), ("ja", JAPANESE))[index % 2]
    name = entity.en.removeprefix("the ")
    chosen = [sentences[0].format(s=name), *rng.sample(sentences[1:], 4)]
    return Document(key, language.code, name, (paragraph(*chosen[:2]), paragraph(*chosen[2:])), "other_language",
                    (entity.id,), planted=(chosen[0],), written_in=written_in)


def broken_bytes(markup: str, variant: str, rng: random.Random) -> bytes:
    """What is served in the page's place."""
    if variant == "binary":
        return b"\x89BIN\r\n\x1a\n\x00" + rng.randbytes(1500)
    if variant == "pdf":
        return b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<< /Type /Catalog >>\nstream\n" + rng.randbytes(900) + \
            b"\nendstream\nendobj\ntrailer\n%%EOF\n"
    if variant == "gb18030":
        return markup.encode("gb18030")
    whole = bytearray(markup.encode())
    for _ in range(3):
        # After a closing tag, so that no character of the text is lost.
        at = whole.find(b"</p>", rng.randrange(len(whole) // 2))
        whole[at:at] = b"\xff\xfe\xc3"
    return bytes(whole)
