"""The tool `cogview`: a model describes a picture, the user sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headwater.agent.images.painter import CogviewSettings, Painter
from headwater.agent.tool import Definition, Image, Observation, ToolError
from headwater.tokenizer.calls.reply import CODE

NAME = "cogview"
LONGEST = 4000
"""Characters of a description; how many tokens it may have is the checkpoint's matter."""
_PROMPT = "prompt"


class Cogview:
    """A `Tool`. The painter is shared: it belongs to whoever made it, unless it is `owned`."""

    def __init__(self, painter: Painter, *, owned: bool = False) -> None:
        """owned: the painter is closed with the tool."""
        self._painter, self._owned = painter, owned
        self._key = CODE if painter.settings.free_text else _PROMPT

    @property
    def definitions(self) -> tuple[Definition, ...]:
        text = ("Draws a picture and shows it to the user. Give a description of it in English, of about 100 words: "
                "what is seen, where, in which style and light. Translate what the user wrote in another language, and "
                "keep to what the user asked for.")
        description = {"type": "string", "minLength": 1, "maxLength": LONGEST, "description": "the picture, in English"}
        return (Definition(NAME, text, {"type": "object", "properties": {self._key: description},
                                        "required": [self._key], "additionalProperties": False},
                           free_text=self._painter.settings.free_text),)

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Observation:
        """Raises `ToolError` for an empty description and what `Painter.draw` raises."""
        prompt = arguments.get(self._key)
        if name != NAME or not isinstance(prompt, str):
            raise ToolError(f"{NAME} takes a description as the argument `{self._key}`")
        # Half a surrogate pair, which JSON can spell, is no text.
        prompt = prompt.encode("utf-8", "replace").decode().strip()
        if not prompt:
            raise ToolError("the description is empty", fix="say what the picture shows")
        drawn = await self._painter.draw(prompt)
        return Observation(f"The picture ({drawn.width} x {drawn.height}, seed {drawn.seed}) was shown to the user.",
                           (Image(drawn.png),))

    async def close(self) -> None:
        if self._owned:
            self._painter.close()


def open_cogview(settings: CogviewSettings) -> Cogview:
    """For one conversation, which closes the checkpoint too; a server makes one `Painter` for all of its own. Raises
    what `Painter` does."""
    return Cogview(Painter(settings), owned=True)
