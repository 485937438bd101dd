"""Who may call what: tools that a conversation allows, and a person's word where one is needed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from headwater.agent.tool import Definition

Reason = Literal["always", "untrusted"]
"""always: every call of this tool. untrusted: others' words are in the conversation, and the call has effects."""
Approve = Callable[[Definition, Mapping[str, Any], Reason], Awaitable[bool]]
"""Asks a person. False: no."""


@dataclass(frozen=True)
class Permission:
    """Of one conversation."""

    allowed: Collection[str] | None = None
    """Tools that the model may call; None: all that it is given. Of others it is not even told."""
    approve: Approve | None = None
    """None: nobody can be asked, and what needs a person's word is refused."""

    def allows(self, name: str) -> bool:
        return self.allowed is None or name in self.allowed

    async def refusal(self, tool: Definition, arguments: Mapping[str, Any], *, tainted: bool) -> str | None:
        """Why a call of an allowed tool may not be, for the model to read; None: it may. tainted: others' words are in
        the conversation."""
        reason: Reason | None = "always" if tool.approval else "untrusted" if tainted and tool.effects else None
        if reason is None:
            return None
        if self.approve is None:
            return f"'{tool.name}' needs the user's approval, and nobody can be asked here."
        return None if await self.approve(tool, arguments, reason) else f"The user does not want '{tool.name}' called."
