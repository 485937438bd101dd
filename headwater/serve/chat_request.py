"""POST /v1/chat/completions on the wire: what is read, what is refused, what is answered."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from headwater.generate.constraint import Constraint
from headwater.generate.request import TokenLogprob
from headwater.generate.sampling import SamplingParams
from headwater.serve.agent_wire import AgentEvent, AskedBudgets
from headwater.serve.chat_examples import CHATS
from headwater.serve.errors import RequestError
from headwater.serve.sampled import Sampled, constraint_of
from headwater.serve.tool_wire import Function, Tool, ToolChoice, Tools, WireCall
from headwater.serve.wire import Many, Wire
from headwater.tokenizer.chat import Message
from headwater.tokenizer.vocabulary import Tokenizer


class TextPart(Wire):
    type: Literal["text"]
    text: str


class WireMessage(Wire):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Many[TextPart] | None = None
    name: str | None = None
    tool_calls: Many[WireCall] | None = None
    tool_call_id: str | None = None
    agent: Many[AgentEvent] | None = None
    """What the server's tools did for an answer, as it came: the model is told of it again."""
    refusal: None = None
    annotations: list[Any] | None = Field(default=None, max_length=0)
    """This and the two around it stand empty in answers, which clients send back as they came."""
    audio: None = None
    function_call: None = None

    def text(self) -> str:
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""

    def plain(self) -> Message:
        # OpenAI's newer name for the same thing.
        return {"role": "system" if self.role == "developer" else self.role, "content": self.text()}

    def check(self, where: str) -> None:
        """Raises `RequestError`."""
        if self.content is None and not self.tool_calls:
            raise RequestError(f"'{where}.content' is required", param=f"{where}.content",
                               code="missing_required_parameter")
        for name in ("tool_calls", "agent"):
            if getattr(self, name) and self.role != "assistant":
                raise RequestError(f"'{name}' belong to messages with role 'assistant'", param=f"{where}.{name}",
                                   code="invalid_value")
        if (self.tool_call_id is not None) != (self.role == "tool"):
            raise RequestError("'tool_call_id' belongs to messages with role 'tool', and each of them has one",
                               param=f"{where}.tool_call_id", code="invalid_value")


class JsonSchema(Wire):
    name: str
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None
    """Answers are always held to the schema."""


class ResponseFormat(Wire):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class ChatRequest(Sampled):
    neutral: ClassVar = {"functions": ([],), "function_call": ("none", "auto"), "modalities": (["text"],),
                         "stop_token_ids": ([],)}

    examples: ClassVar = CHATS
    nested: ClassVar = {"messages": {*WireMessage.model_fields}, "tools": {*Function.model_fields, *Tool.model_fields}}

    messages: Many[WireMessage] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    response_format: ResponseFormat | None = None
    tools: Many[Tool] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    budgets: AskedBudgets | None = None
    """Of an answer for which the server calls tools of its own."""
    session: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]{16,64}$")
    """A name nobody guesses: what the server's tools hold (variables, files, open pages) stays for the next answer of
    the same name."""
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)

    @property
    def limit(self) -> int | None:
        """Tokens asked for, by either name."""
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens

    def offer(self) -> Tools:
        """What the request says of tools."""
        return Tools(self.tools or [], self.tool_choice, self.parallel_tool_calls is not False)

    @property
    def calls(self) -> bool:
        """Whether the model may call."""
        return bool(self.tools) and self.tool_choice != "none"

    @property
    def works(self) -> bool:
        """Whether the server may call tools of its own."""
        return self.calls and bool(self.offer().kinds())

    @property
    def guide(self) -> str | None:
        form = "response_format" if self.response_format is not None and self.response_format.type != "text" else None
        return super().guide or form or ("tools" if self.calls else None)

    def constraint(self) -> Constraint | None:
        guided, form = super().constraint(), self.response_format
        if form is None or form.type == "text":
            return guided
        if guided is not None:
            raise RequestError("'response_format' contradicts what guides the answer", param="response_format",
                               code="invalid_value")
        if form.type == "json_object":
            return Constraint(kind="json")
        assert form.json_schema is not None
        return constraint_of("response_format", "json_schema", form.json_schema.schema_)

    def params(self, defaults: SamplingParams, room: int, calls: Constraint | None) -> list[SamplingParams]:
        """Of each choice; see `Sampled.sampling`. calls: what keeps calls of tools to their form."""
        constraint = {} if calls is None else {"constraint": calls}
        return self.sampling(defaults, room, (self.top_logprobs or 0) if self.logprobs else None, trim_start=True,
                             **constraint)

    def check(self) -> None:
        super().check()
        for number, message in enumerate(self.messages):
            message.check(f"messages.{number}")
        self.offer().check()
        if self.calls and (self.stops() or self.guide != "tools"):
            other = "stop" if self.stops() else self.guide
            raise RequestError(f"'{other}' and 'tools' do not go together: leave one of them out, or set 'tool_choice' "
                               "to 'none'", param=other, code="invalid_value")
        self._check_work()
        form = self.response_format
        if form is not None and (form.type == "json_schema") != (form.json_schema is not None):
            raise RequestError("'response_format' has a 'json_schema' where its type is json_schema, and only there",
                               param="response_format", code="invalid_value")
        if self.top_logprobs is not None and not self.logprobs:
            raise RequestError("'top_logprobs' needs 'logprobs': true", param="top_logprobs", code="invalid_value")
        if self.max_tokens not in (None, self.limit):
            raise RequestError("'max_tokens' and 'max_completion_tokens' contradict each other", param="max_tokens",
                               code="invalid_value")

    def _check_work(self) -> None:
        for name in ("budgets", "session"):
            if getattr(self, name) is not None and not self.works:
                raise RequestError(f"'{name}' goes with the server's own tools, and the request asks for none of them",
                                   param=name, code="invalid_value")
        for name, asked in (("n", self.choices > 1), ("logprobs", self.logprobs)):
            if asked and self.works:
                raise RequestError(f"'{name}' and the server's own tools do not go together: leave one of them out",
                                   param=name, code="invalid_value")


def logprobs_body(tokenizer: Tokenizer, logprobs: list[TokenLogprob]) -> dict[str, Any]:
    """OpenAI's `logprobs` object of a choice."""
    def entry(token: int, logprob: float) -> dict[str, Any]:
        data = tokenizer.decode_bytes([token])
        return {"token": data.decode("utf-8", "replace") or tokenizer.piece(token), "logprob": logprob,
                "bytes": list(data)}

    return {"content": [{**entry(item.token, item.logprob),
                         "top_logprobs": [entry(*pair) for pair in item.top]} for item in logprobs],
            "refusal": None}
