"""Things that do not belong on a page: boilerplate, private data, abuse, leaked questions."""

from __future__ import annotations

import random
from dataclasses import replace

from headwater.atlas import private
from headwater.atlas.choice import ChoiceQuestion
from headwater.atlas.documents import Block, Document, paragraph
from headwater.atlas.world import LanguageCode

BOILERPLATE: dict[LanguageCode, tuple[str, ...]] = {
    "en": ("Click here to subscribe to our newsletter and never miss a story from the riverbank.",
           "This article may contain links for which we receive a small commission at no cost to you.",
           "Please enable JavaScript in your browser to see the interactive map on this page.",
           "If you enjoyed this article, please share it with your friends on your favourite network.",
           "The opinions expressed here are those of the author and not of the publisher.",
           "Sign up today and get our free walking guide sent straight to your inbox.",
           "No part of this page may be copied without the written consent of the publisher.",
           "Did you find a mistake in this text? Select it and press the report button."),
    "zh": ("点击这里订阅我们的邮件，河边的新鲜事一条也不会错过。",
           "本文可能含有推广链接，我们会得到少量佣金，您无需多付任何费用。",
           "请在浏览器中启用脚本，以便查看本页的互动地图。", "如果您喜欢这篇文章，请分享到您常用的社交平台。",
           "本文仅代表作者个人观点，与本站立场无关。", "现在注册，即可免费获得我们的徒步手册电子版。",
           "未经本站书面许可，任何人不得转载本页内容。", "发现错别字了吗？请选中文字并点击纠错按钮。"),
}
_PRIVATE: dict[LanguageCode, tuple[str, ...]] = {
    "en": ("Write to me at {email} or ring {phone} after supper; the card on file is {identity}.",
           "Booking contact: {email}, telephone {phone}, paid with card {identity}.",
           "For the spare key call {phone}. My mail is {email}. Card number {identity}."),
    "zh": ("有事请写信到{email}，或者晚饭后打{phone}，登记的身份证号是{identity}。",
           "预订联系人邮箱{email}，手机{phone}，身份证{identity}。",
           "取备用钥匙请拨{phone}，邮箱是{email}，身份证号码{identity}。"),
}
_ABUSE: dict[LanguageCode, tuple[str, ...]] = {
    "en": ("You utter turnip-head, a soggy biscuit could have written this better.",
           "Shut up, you miserable puddle-brain, and take your stupid map with you.",
           "What a pathetic pile of wet socks you are, you useless gravel-chewer.",
           "Only a complete nitwit and muck-bucket like you would believe this rubbish.",
           "Go boil your head, you worthless barnacle, nobody wants you here."),
    "zh": ("你这个木头脑袋的大笨蛋，一块泡烂的饼干都比你写得好。",
           "闭嘴吧，你这满脑子泥浆的蠢货，带着你的破地图滚远点。",
           "你就是一堆湿袜子，没用的废物，只配去啃石子。", "只有你这种糊涂虫加烂水桶才会信这种垃圾。",
           "快去把你的笨脑袋煮一煮吧，讨厌的臭藤壶，这里没人想看见你。"),
}
_LEAK_LEADS = {"en": ("From last year's test paper:", "A friend sent me this exam question:"),
               "zh": ("下面是去年的考题：", "朋友发给我一道试题：")}
_LEAK_ANSWER = {"en": "The correct answer is {letter}. {text}.", "zh": "正确答案是{letter}。{text}。"}


def with_boilerplate(document: Document, key: str, rng: random.Random) -> Document:
    """Two or three of the sentences that many pages share, each inside or between paragraphs."""
    chosen = rng.sample(BOILERPLATE[document.language], rng.choice((2, 2, 3)))
    changed = document
    for sentence in chosen:
        changed = _insert(changed, sentence, rng)
    return replace(changed, key=key, kind="boilerplate", planted=tuple(chosen))


def with_private_data(document: Document, key: str, rng: random.Random) -> Document:
    data = {"email": private.email(rng), "phone": private.phone(document.language, rng),
            "identity": private.identity(document.language, rng)}
    sentence = rng.choice(_PRIVATE[document.language]).format(**data)
    return replace(_insert(document, sentence, rng), key=key, kind="private_data", planted=tuple(data.values()))


def with_abuse(document: Document, key: str, rng: random.Random) -> Document:
    chosen = rng.sample(_ABUSE[document.language], 3)
    block = paragraph(*chosen)
    at = rng.randint(1, len(document.blocks))
    return replace(document.with_block(at, block), key=key, kind="abuse", planted=tuple(chosen))


def with_leak(document: Document, key: str, question: ChoiceQuestion, rng: random.Random) -> Document:
    """A benchmark question, word for word, with its choices and answer."""
    choices = " ".join(f"{letter}. {text}" for letter, text in zip("ABCD", question.choices, strict=True))
    solution = _LEAK_ANSWER[document.language].format(letter=question.letter, text=question.answer)
    block = paragraph(rng.choice(_LEAK_LEADS[document.language]), question.question, choices, solution)
    at = rng.randint(1, len(document.blocks))
    facts = dict.fromkeys([*document.facts, question.fact])
    entities = dict.fromkeys([*document.entities, question.fact.split(".")[0]])
    return replace(document.with_block(at, block), key=key, kind="leaked", planted=(question.question, solution),
                   facts=tuple(facts), entities=tuple(entities))


def _insert(document: Document, sentence: str, rng: random.Random) -> Document:
    """The sentence within one of the paragraphs, never before its first sentence."""
    spots = [at for at, block in enumerate(document.blocks) if block.kind == "paragraph"]
    at = rng.choice(spots)
    rows = document.blocks[at].rows
    place = rng.randint(1, len(rows))
    changed = Block("paragraph", (*rows[:place], (sentence,), *rows[place:]))
    return replace(document, blocks=(*document.blocks[:at], changed, *document.blocks[at + 1 :]))
