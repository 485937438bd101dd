"""What the server's tools did for an answer, on the wire: the field `agent`, as it is sent and as it comes back."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from headwater.agent.budgets import Budgets
from headwater.agent.events import Budget
from headwater.serve.errors import RequestError
from headwater.serve.wire import Many, Wire


class AgentCall(Wire):
    type: Literal["call"]
    id: str
    name: str
    arguments: str
    """JSON; of a tool whose calls are programs, the program."""


class AgentObservation(Wire):
    type: Literal["observation"]
    id: str
    """Of the call that gave it."""
    text: str
    """What the model reads."""
    failed: bool = False
    images: Many[str] = []
    """As data URLs."""
    sources: Many[Many[str]] = []
    """Addresses and titles that the text speaks of."""


class AgentBudget(Wire):
    """The work ended in its middle."""

    type: Literal["budget"]
    what: Budget


AgentEvent = Annotated[AgentCall | AgentObservation | AgentBudget, Field(discriminator="type")]


class AskedBudgets(Wire):
    """Less than the server allows for one answer."""

    steps: int | None = Field(default=None, gt=0)
    """Turns of the model."""
    tokens: int | None = Field(default=None, gt=0)
    """That it says in all; `max_tokens` bounds the same."""
    seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Of everything together."""

    def within(self, most: Budgets) -> Budgets:
        """Raises `RequestError` for more than there is."""
        asked = self.model_dump(exclude_none=True)
        for name, value in asked.items():
            if value > getattr(most, name):
                raise RequestError(f"'budgets.{name}' is at most {getattr(most, name):g} here", param=f"budgets.{name}",
                                   code="invalid_value")
        return most.model_copy(update=asked)
