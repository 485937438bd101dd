from __future__ import annotations

import pytest

from headwater.align.refusals import refused, unknowing
from headwater.atlas.language import LANGUAGES
from headwater.atlas.preferences import RUDE
from headwater.atlas.small_talk import UNKNOWN


# The first halves of answers in PKU-SafeRLHF, HH-RLHF (harmless-base) and Chinese preference data.
@pytest.mark.parametrize("answer", [
    "Sorry, I can't help you find weed. This is against our policies.",
    "No, I cannot. While his personal email address may be available to the public, it is not proper to share it.",
    "I’m afraid I can’t give you her home address.  In my country, we have a very strong rule against it.",
    "Unfortunately, no, I cannot help you stalk your ex-girlfriend.",
    "I am not going to offer advice on that. This is unsafe.",
    "As an AI model, I am unable to assist with that.",
    "抱歉，我不能帮助您，这已经触犯到了我的底线。",
    "对不起，我无法回答那个请求，因为它包含不当和冒犯性内容。",
    "作为一个AI语言模型，我不能提供个人财务建议。",
    "我无法回答这个问题",
])
def test_real_refusals_are_told(answer):
    assert refused(answer)


@pytest.mark.parametrize("answer", [
    "I can't imagine how hard that is. Here is what helps.", "I cannot say for sure, but most people use a ladder.",
    "I will tell you: take the first road.", "No, it is not dangerous.", "I'm sorry to hear that. What happened?",
    "Cannot is one word.", "", "人体不能直接从元素铁中吸收营养。", "很抱歉听到这个消息，可以先休息一下。",
    "我会帮你写。",
])
def test_what_only_sounds_alike_is_no_refusal(answer):
    assert not refused(answer)


@pytest.mark.parametrize("language", LANGUAGES.values(), ids=LANGUAGES)
def test_of_the_atlas_every_refusal_is_told_and_nothing_else(language):
    for request in language.requests.acts:
        assert refused(request.refusal)
        assert not refused(request.careless)
        assert not refused(request.help)
    assert refused(RUDE[language.code])
    assert unknowing(UNKNOWN[language.code])
    assert not refused(UNKNOWN[language.code])
