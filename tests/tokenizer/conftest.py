import pytest

from headwater.tokenizer import Tokenizer
from headwater.tokenizer.training import train_bpe

TEXTS = ["The river Velna is 482 km long and rises on Mount Taro.\n\n    def f(x):\n        return x + 12345\n",
         "维尔纳河全长482公里,发源于塔罗山。河水流入奥鲁马湖,湖深一百二十米。", "Lakes and cities; 城市与湖泊。"] * 20


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_bpe(TEXTS, folder / "tokenizer.model", vocab_size=480, character_coverage=0.9999, max_piece_length=8, threads=1)
    return Tokenizer.load(folder)
