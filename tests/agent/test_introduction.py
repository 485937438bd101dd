from datetime import date

from headwater.agent.introduction import introduction
from headwater.tokenizer.calls import Glm4Calls
from tests.agent.conftest import SEARCH


def test_it_says_the_day_in_both_languages():
    assert "2026年3月9日" in introduction(date(2026, 3, 9))
    assert "2026-03-09" in introduction(date(2026, 3, 9), "en")


def test_glm_4_reads_it_before_its_heading_of_tools():
    text = Glm4Calls([SEARCH]).system(introduction(date(2026, 3, 9)))["content"]
    assert text.startswith("你是一个会使用工具的助手")
    assert text.endswith("\n\n# 可用工具")
