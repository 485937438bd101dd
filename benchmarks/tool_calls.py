"""Calls of tools by models of random weights: how many can be read and fit their schemas, by family.

    python benchmarks/tool_calls.py [--full] [--calls N]

A decoder of random weights for each family's tokenizer and way to write calls (ChatGLM3, GLM-4, our own, plain JSON),
tools of several kinds of schema, a call demanded and the answer's tokens bounded. A call counts where the family's own
parser reads it, its tool is on offer and `jsonschema` finds its arguments valid; beside it the same without a
constraint.
"""

from __future__ import annotations

import base64
import io
import itertools
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import sentencepiece
import torch
from _harness import Case, arguments, report

from headwater.agent.tool import Definition
from headwater.errors import InputError
from headwater.generate import Engine, SamplingParams
from headwater.generate.constraint import Constraint
from headwater.model import Decoder, ModelConfig, initialise
from headwater.tokenizer import Tokenizer
from headwater.tokenizer.calls import Call, CallFormat, Only, format_for
from headwater.tokenizer.calls.spoken import Spoken
from headwater.tokenizer.training import BpeSettings, train_bpe
from headwater.tokenizer.words import count_words

SAMPLE = "A river runs to the sea, 482 km from its source. 河流从山上流入大海，全长三百公里。 [1, 2.5, null]} " * 9
PIECES = ("in", "er", " the", "ri", "ver", "河", "公里", '":', '{"', " 1")
SAID: dict[str, dict[str, Any]] = {
    "ChatGLM3": {"tokenizer_class": "ChatGLMTokenizer", "name_or_path": "THUDM/chatglm3-6b"},
    "GLM-4": {"tokenizer_class": "ChatGLM4Tokenizer"},
    "plain": {"tokenizer_class": "LlamaTokenizer", "chat_template": "{% if system %}<<SYS>>{% endif %}[INST]"}}
"""What tells whose tokenizer it is."""
LIMITS = (24, 60, 200, 600)
"""Tokens of an answer, in turn; where no call is so short the next."""


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)[:2], "additionalProperties": False}


TEXT, POINT = {"type": "string"}, _object(x={"type": "number"}, y={"type": "number"})
TOOLS = (
    Definition("search", "Looks something up.", _object(query=TEXT, count={"type": "integer", "minimum": 1})),
    Definition("查询天气", "The weather of a city.", _object(城市=TEXT, 单位={"enum": ["摄氏", "华氏"]})),
    Definition("now", "The time.", {"type": "object", "properties": {}, "additionalProperties": False}),
    Definition("route", "A way along points.", _object(
        points={"type": "array", "items": POINT, "minItems": 2, "maxItems": 6}, by={"enum": ["foot", "boat", None]},
        fast={"type": "boolean"}, note={"anyOf": [TEXT, {"type": "null"}]})),
    Definition("book", "A table.", _object(guests={"type": "integer", "minimum": 1, "maximum": 12}, name={
        "type": "string", "minLength": 2, "maxLength": 30}, when={"type": "array", "items": {"type": "integer"}})),
    Definition("python", "Runs a program.", {"type": "object", "properties": {"code": TEXT}, "required": ["code"],
                                             "additionalProperties": False}, free_text=True))


def tokenizers(folder: Path) -> dict[str, Tokenizer]:
    """Of each family, with pieces of a little text."""
    for name in ("own", *SAID):
        (folder / name).mkdir()
        if name in SAID:
            (folder / name / "tokenizer_config.json").write_text(json.dumps(SAID[name]))
    train_bpe(count_words([(SAMPLE, "")]).weighted(), folder / "own" / "tokenizer.model",
              BpeSettings(vocab_size=400, max_piece_length=8))
    for name in ("ChatGLM3", "plain"):
        (folder / name / "tokenizer.model").write_bytes(_sentencepiece())
    pieces = [*(bytes([byte]) for byte in range(256)), *(piece.encode() for piece in PIECES)]
    (folder / "GLM-4" / "tokenizer.model").write_bytes(b"".join(
        base64.b64encode(piece) + f" {rank}\n".encode() for rank, piece in enumerate(pieces)))
    return {name: Tokenizer.load(folder / name) for name in ("own", *SAID)}


def _sentencepiece() -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([SAMPLE] * 8), model_writer=model, model_type="bpe", vocab_size=380,
        character_coverage=1.0, byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
        hard_vocab_limit=False, split_digits=True, unk_id=0, bos_id=1, eos_id=2, minloglevel=2, num_threads=1)
    return model.getvalue()


@dataclass
class Family:
    """A random model of one family."""

    engine: Engine
    format: CallFormat

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Family:
        config = ModelConfig(vocab_size=tokenizer.vocab_size, hidden_size=64, intermediate_size=128,
                             num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=1024,
                             initializer_range=0.1)
        return cls(Engine(initialise(Decoder(config), seed=0).eval(), tokenizer), format_for(tokenizer.chat, TOOLS))

    def valid(self, tokens: list[int], end: int | None) -> bool:
        """Whether an answer is one call that fits."""
        tokenizer = self.engine.tokenizer
        spoken = Spoken(tokenizer)
        names = {index: name for name, index in tokenizer.specials.items()}
        reply = self.format.parse([*spoken.feed(tuple(tokens)), *spoken.finish()],
                                  None if end is None else names.get(end))
        schemas = {tool.name: tool.parameters for tool in TOOLS}
        if len(reply.calls) != 1:
            return False
        call = reply.calls[0]
        return (isinstance(call, Call) and call.name in schemas
                and jsonschema.Draft202012Validator(schemas[call.name]).is_valid(call.arguments))

    def calls(self, count: int, *, bound: bool) -> int:
        """How many of so many are valid."""
        params = [self._params(number, bound=bound) for number in range(count)]
        found = self.engine.generate([[5] * 8] * count, params)
        return sum(self.valid(one.tokens, one.end_mark) for one in found)

    def _params(self, number: int, *, bound: bool) -> SamplingParams:
        choice = "required" if number % 2 else Only(TOOLS[number // 2 % len(TOOLS)].name)
        limits = itertools.dropwhile(lambda limit: limit < LIMITS[number % len(LIMITS)], LIMITS)
        constraint = Constraint(kind="grammar", text=self.format.grammar(choice, parallel=False)) if bound else None
        for limit in limits:
            params = SamplingParams(temperature=1.0, seed=number, max_tokens=limit, constraint=constraint)
            try:
                self.engine.prepare([5] * 8, params)
            except InputError:
                continue
            return params
        raise RuntimeError(f"no call of {TOOLS[number // 2 % len(TOOLS)].name} in {limit} tokens")


def main() -> None:
    options = arguments(__doc__, ("--calls", {"type": int, "default": None,
                                              "help": "of all families together (200; 1000 with --full)"}))
    torch.set_num_threads(1)
    count = options.calls or (1000 if options.full else 200)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        families = tokenizers(Path(name))
        for kind, tokenizer in families.items():
            family, each = Family.of(tokenizer), count // len(families)
            began = time.perf_counter()
            bound = family.calls(each, bound=True)
            seconds = time.perf_counter() - began
            free = family.calls(min(each, 20), bound=False)
            rows += [Case.compare(f"{kind}, {each} calls", "% valid", 100 * bound / each, "without a constraint",
                                  100 * free / min(each, 20)),
                     Case(f"{kind}, {each} calls", "calls/s", each / seconds, "")]
    report("tool_calls", rows, {}, ("torch", "llguidance", "jsonschema"))


if __name__ == "__main__":
    main()
