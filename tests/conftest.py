"""Fixtures every room's tests share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.checkpoint import save_model
from headwater.tokenizer import Tokenizer
from headwater.tokenizer.training import BpeSettings, train_bpe
from headwater.tokenizer.words import count_words

# A busy machine is slow; no test of ours fails for that.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, so that of two workers none is left with one at the end (`make test`)."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)

TEXTS = ["The river Velna is 482 km long and rises on Mount Taro.\n\n    def f(x):\n        return x + 12345\n",
         "维尔纳河全长482公里,发源于塔罗山。河水流入奥鲁马湖,湖深一百二十米。", "Lakes and cities; 城市与湖泊。"] * 20


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real inputs beside the repository; tests that need it skip where it is absent."""
    folder = Path(__file__).parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("the real inputs (../shared) are not here")
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    words = count_words((text, "") for text in TEXTS).weighted()
    train_bpe(words, folder / "tokenizer.model", BpeSettings(vocab_size=480, max_piece_length=8))
    return Tokenizer.load(folder)


@pytest.fixture(scope="session")
def small_model(trained, tmp_path_factory) -> Path:
    """A model folder: random weights, the trained tokenizer."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "tokenizer.model").write_bytes(trained.to_bytes())
    (folder / "tokenizer_config.json").write_text("{}")
    config = ModelConfig(vocab_size=512, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
                         num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
                         tie_word_embeddings=True)
    save_model(initialise(Decoder(config), 0), folder)
    return folder


@pytest.fixture(scope="session")
def bucket() -> Iterator[str]:
    """A URL in an S3 server on loopback."""
    server = pytest.importorskip("moto.server", reason="moto is not installed").ThreadedMotoServer(port=0)
    import boto3

    server.start()
    host, port = server.get_host_and_port()
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=f"http://{host}:{port}", **keys).create_bucket(Bucket="corpus")
    os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}
    yield f"s3://corpus/PREFIX?region=us-east-1&scheme=http&endpoint_override={host}:{port}"
    server.stop()
