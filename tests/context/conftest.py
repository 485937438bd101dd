"""A corpus of long texts in both languages, and a model whose attention rests on the first token."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from headwater.model import Decoder, ModelConfig


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus") / "validation"
    folder.mkdir()
    texts = {"en": "The river runs south past the old mill. Number {n} is painted on its door. " * 30,
             "zh": "河水流过古老的磨坊。门上写着{n}号。" * 60}
    rows = [{"text": text.replace("{n}", str(number)), "language": language}
            for language, text in texts.items() for number in range(3)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "part.parquet")
    return folder.parent


@pytest.fixture
def resting() -> Decoder:
    """Made by hand, without positions: ids 0 to 5, of which 0 is `<bos>`. Every query is the same, only the key of
    `<bos>` answers it (score 10), and its value says that id 2 comes next."""
    model = Decoder(ModelConfig(vocab_size=8, hidden_size=8, intermediate_size=4, num_hidden_layers=1,
                                num_attention_heads=1, max_position_embeddings=64, position="none")).eval()
    attention, head = model.blocks[0].attention, model.head
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_() if parameter.dim() > 1 else parameter.fill_(1.0)
        model.embedding.weight.copy_(torch.eye(8))
        model.embedding.weight[:, 7] = 1.0  # what every query reads
        query, key, value = attention.qkv.weight.split(8)
        query[0, 7], key[0, 0], value[6, 0] = 10 * 8**0.5 / 4, 1.0, 1.0  # a normed state is twice its embedding
        attention.out.weight.copy_(torch.eye(8))
        head.weight[2, 6] = 5.0
    return model
