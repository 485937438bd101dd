"""What the JSON files of a folder say about its tokenizer, beside its pieces."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headwater.artifacts import read_json
from headwater.errors import InputError
from headwater.folders import CHAT_TEMPLATE, GENERATION_CONFIG, TOKENIZER_CONFIG

LLAMA, BAICHUAN, CHATGLM, GLM4, JSON, OURS = "LLaMA", "Baichuan", "ChatGLM2/3", "GLM-4", "tokenizer.json", "headwater"
CLASSES = {"LlamaTokenizer": LLAMA, "LlamaTokenizerFast": LLAMA, "BaiChuanTokenizer": BAICHUAN,
           "BaichuanTokenizer": BAICHUAN, "ChatGLMTokenizer": CHATGLM, "ChatGLM4Tokenizer": GLM4,
           "PreTrainedTokenizerFast": JSON, "TokenizersBackend": JSON}
MODEL_TYPES = {"llama": LLAMA, "baichuan": BAICHUAN, "chatglm": CHATGLM, "glm": GLM4, "glm4": GLM4, "headwater": OURS}
RECORDED = "chat_format"
"""In `tokenizer_config.json`: the name of the chat template that our own tuning used."""


@dataclass(frozen=True)
class Facts:
    """What the JSON files of a folder say beside its pieces; what is absent is empty."""

    folder: Path
    tokenizer: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    generation: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path) -> Facts:
        """Raises `InputError` for a file that is not a JSON object."""
        tokenizer = {**_read_object(folder / "special_tokens_map.json"), **_read_object(folder / TOKENIZER_CONFIG)}
        return cls(folder, tokenizer, _read_object(folder / "config.json"), _read_object(folder / GENERATION_CONFIG))

    @property
    def names(self) -> str:
        """What the model calls itself, and its folder, in lower case."""
        said = (self.tokenizer.get("name_or_path"), self.config.get("_name_or_path"), self.folder.name)
        return " ".join(str(name).lower() for name in said if name)

    @property
    def chat_template(self) -> str:
        """Its text, the default one where there are several; read to tell models apart."""
        said = self.tokenizer.get("chat_template")
        if isinstance(said, list):
            said = next((one.get("template") for one in said if isinstance(one, dict)
                         and one.get("name") == "default"), None)
        beside = self.folder / CHAT_TEMPLATE
        kept = beside.read_text(encoding="utf-8", errors="replace") if beside.is_file() else ""
        return str(said or kept)

    def named(self, role: str) -> str | None:
        """The text of "bos_token" and its like: a string, or an object with the content."""
        value = self.tokenizer.get(role)
        value = value.get("content") if isinstance(value, dict) else value
        return value if isinstance(value, str) else None

    def listed(self) -> list[str]:
        """Further special tokens that are named without an id."""
        values = self.tokenizer.get("additional_special_tokens")
        return [name for name in values if isinstance(name, str)] if isinstance(values, list) else []

    def added(self) -> dict[str, int]:
        """Special tokens that the configuration puts beside the pieces. Raises `InputError`."""
        entries = self.tokenizer.get("added_tokens_decoder")
        try:
            if entries is not None:
                return {str(entry["content"]): int(index) for index, entry in entries.items() if entry.get("special")}
            return {name: int(index) for name, index in _read_object(self.folder / "added_tokens.json").items()}
        except (AttributeError, KeyError, TypeError, ValueError):
            raise InputError("added tokens that are not a table of ids and tokens", where=self.folder,
                             fix=f"copy {TOKENIZER_CONFIG} and added_tokens.json again") from None

    def family(self) -> str | None:
        """What the class or the model type says; None where neither is there. Raises `InputError` for unknown ones."""
        sources = (("tokenizer_class", self.tokenizer, CLASSES), ("model_type", self.config, MODEL_TYPES))
        for key, values, known in sources:
            found = values.get(key)
            if found is not None:
                if not isinstance(found, str) or found not in known:
                    raise InputError(f"a tokenizer of {key} {found!r}", where=self.folder,
                                     fix=f"supported: {', '.join(known)}")
                return known[found]
        return None


def _read_object(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    values = read_json(path)
    if not isinstance(values, dict):
        raise InputError(f"holds a {type(values).__name__}, not an object", where=path, fix="copy the file again")
    return values
