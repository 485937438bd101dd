"""A request's messages as the model's family writes them, calls of tools and what they gave back among them."""

from __future__ import annotations

from collections.abc import Sequence

from headwater.serve.agent_wire import AgentCall, AgentObservation
from headwater.serve.chat_request import WireMessage
from headwater.serve.errors import RequestError
from headwater.tokenizer.calls import Call, CallFormat, Malformed, Reply
from headwater.tokenizer.calls.reply import CODE
from headwater.tokenizer.calls.stream import read_call
from headwater.tokenizer.chat import Message


def conversation(messages: Sequence[WireMessage], format: CallFormat) -> list[Message]:
    """With the format's tools told in the system message. Raises what `history` does."""
    said = history(messages, format)
    return _told(said, format) if format.tools else said


def history(messages: Sequence[WireMessage], format: CallFormat) -> list[Message]:
    """Raises `RequestError` for calls without results and results without calls."""
    said: list[Message] = []
    at = 0
    while at < len(messages):
        message = messages[at]
        if message.role == "tool":
            raise _wrong(at, "a message with role 'tool' answers a call of the assistant's message before it")
        at += 1
        said += _worked(message, format)
        if message.tool_calls:
            results = _results(message, messages[at:], at)
            said += format.render(Reply(message.text(), tuple(one.call() for one in message.tool_calls)))
            said += format.observe(results)
            at += len(results)
        else:
            said.append(message.plain())
    return said


def _worked(message: WireMessage, format: CallFormat) -> list[Message]:
    """What the server's tools did for an earlier answer; a call that came to nothing is left out."""
    said: list[Message] = []
    calls: dict[str, Call | Malformed] = {}
    for one in message.agent or ():
        if isinstance(one, AgentCall):
            program = one.name in format.tools and format.tools[one.name].free_text
            calls[one.id] = Call(one.name, {CODE: one.arguments}) if program else read_call(one.name, one.arguments)
        elif isinstance(one, AgentObservation) and (call := calls.pop(one.id, None)) is not None:
            said += format.render(Reply("", (call,)))
            said += format.observe([(call.name, one.text)])
    return said


def _results(message: WireMessage, following: Sequence[WireMessage], at: int) -> list[tuple[str, str]]:
    """What each call gave back, by its tool's name, in the calls' order."""
    assert message.tool_calls is not None
    waiting = {one.id: one.function.name for one in message.tool_calls}
    if len(waiting) < len(message.tool_calls):
        raise _wrong(at - 1, "two of its calls have the same 'id'")
    given: dict[str, str] = {}
    for number, answer in enumerate(following[: len(waiting)], at):
        if answer.role != "tool":
            break
        if answer.tool_call_id not in waiting or answer.tool_call_id in given:
            raise _wrong(number, f"no call of the assistant's message waits for '{answer.tool_call_id}'")
        given[answer.tool_call_id] = answer.text()
    missing = [one for one in waiting if one not in given]
    if missing:
        raise _wrong(at - 1, "each call is to be followed by a message with role 'tool' and its 'tool_call_id'; there "
                     f"is none for {', '.join(missing)}")
    return [(name, given[one]) for one, name in waiting.items()]


def _told(said: list[Message], format: CallFormat) -> list[Message]:
    first = said[0] if said and said[0]["role"] == "system" else None
    told = format.system(first["content"] if first else "")
    return [*([told] if told is not None else []), *said[0 if first is None else 1 :]]


def _wrong(number: int, what: str) -> RequestError:
    return RequestError(f"message {number}: {what}", param=f"messages.{number}", code="invalid_value")
