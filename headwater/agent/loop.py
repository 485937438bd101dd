"""All Tools: the model is asked, what it calls is carried out, and it is asked again, until it answers."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from headwater.agent.asking import ContextFull, Model, Said
from headwater.agent.budgets import Budgets, Meter, OutOfTime
from headwater.agent.events import (
    Arguments,
    Budget,
    BudgetReached,
    CallBegan,
    Called,
    Ended,
    Ending,
    Event,
    Observed,
    Text,
)
from headwater.agent.tool import Observation
from headwater.agent.toolbox import Toolbox, failure_key, readable
from headwater.agent.trace import Trace
from headwater.tokenizer import Message
from headwater.tokenizer.calls import (
    ArgumentsDelta,
    Call,
    CallBegins,
    CallEnds,
    CallFormat,
    Choice,
    Malformed,
    Reply,
    TextDelta,
)
from headwater.tokenizer.calls.reply import CODE


def new_id() -> str:
    return f"call_{uuid.uuid4().hex[:24]}"


class Agent:
    """A model with the tools of one conversation. `tainted` stays true once others' words were read."""

    def __init__(self, model: Model, toolbox: Toolbox, *, budgets: Budgets | None = None,
                 ids: Callable[[], str] = new_id) -> None:
        """Raises `InputError` for tools that the model's format cannot write."""
        self.model, self.toolbox, self.budgets, self.new_id = model, toolbox, budgets or Budgets(), ids
        self.format: CallFormat = model.format(toolbox.offered)
        self.tainted = False

    def run(self, messages: Sequence[Message], choice: Choice = "auto") -> Run:
        """Answer the last message. choice: of the first turn; once something was called the model is free.

        Observations in `messages` count as others' words: nothing tells here which tool gave them.
        """
        return Run(self, messages, choice)


class Run:
    """One answer on its way: iterate over it once. Closing the iterator, or cancelling its task, ends what runs.

    Whatever the model does wrong becomes an observation that says so. The last event is `Ended`, unless the model
    itself fails: then its error is raised.
    """

    def __init__(self, agent: Agent, messages: Sequence[Message], choice: Choice) -> None:
        self._agent, self._choice = agent, choice
        # A model that must not call is not told of tools, and a call that it makes up finds none.
        self._box = agent.toolbox if choice != "none" else Toolbox()
        self._format = agent.format if choice != "none" else agent.model.format(())
        self._given = _with_tools(messages, self._format)
        self._said: list[Message] = []
        self._failures: dict[tuple[str, str], int] = {}
        self._text = ""
        self.trace = Trace()
        agent.tainted |= any(message["role"] in ("observation", "tool") for message in messages)

    async def __aiter__(self) -> AsyncGenerator[Event]:
        meter = Meter(self._agent.budgets)
        async with aclosing(self._events(meter)) as events:
            async for event in events:
                self.trace.event(meter, event)
                yield event

    async def _events(self, meter: Meter) -> AsyncGenerator[Event]:
        spent: Budget = "steps"
        try:
            while meter.steps < meter.budgets.steps and meter.tokens_left:
                ended: Ended | None = None
                async with aclosing(self._step(meter)) as step:
                    async for event in step:
                        ended = event if isinstance(event, Ended) else ended
                        yield event
                if ended is not None:
                    return
            spent = "steps" if meter.tokens_left else "tokens"
        except OutOfTime:
            spent = "seconds"
        except ContextFull:
            if meter.steps == 1:  # nothing was done yet: the conversation as it was given does not fit
                raise
            spent = "context"
        yield BudgetReached(spent)
        yield self._ended("budget", meter)

    async def _step(self, meter: Meter) -> AsyncGenerator[Event]:
        """One turn of the model and all that it calls; ends with `Ended` where the run does."""
        turn = _Turn(self._format, self._box, self._agent.new_id)
        async with aclosing(self._ask(turn, meter)) as said:
            async for event in said:
                yield event
        if not turn.calls:
            self._said += self._format.render(turn.reply)
            if turn.cut and not meter.tokens_left:
                return  # the budget's end, not the answer's
            yield self._ended("length" if turn.cut else "answer", meter)
            return
        self._choice = "auto"
        async with aclosing(self._answer_calls(turn, meter)) as answered:
            async for event in answered:
                yield event

    async def _ask(self, turn: _Turn, meter: Meter) -> AsyncGenerator[Event]:
        meter.steps += 1
        before, whole, entry = meter.tokens, False, self.trace.turn(meter)
        messages = [*self._given, *self._said]
        answer = self._agent.model.answer(messages, self._format, self._choice, meter.tokens_left)
        try:
            while (said := await meter.within(anext(answer, None))) is not None:
                meter.tokens += said.tokens
                for event in turn.feed(said):
                    yield event
            for event in turn.finish():
                yield event
            whole = True
        finally:
            self._text = turn.reply.content
            if self._text and not whole:  # what was heard of a turn that time ran out for
                self._said += self._format.render(Reply(self._text))
            entry |= {"text": self._text, "tokens": meter.tokens - before}
            await answer.aclose()

    async def _answer_calls(self, turn: _Turn, meter: Meter) -> AsyncGenerator[Event]:
        """Carry out what the turn calls. Our calls with what they gave stand before the caller's in the conversation,
        so that its own observations follow its calls."""
        ours = [(call, told) for call, told in turn.calls if not told.by_caller]
        theirs = [(call, told) for call, told in turn.calls if told.by_caller]
        observed: list[tuple[str, str]] = []
        hopeless = late = False
        for call, told in ours:
            try:
                observation = _too_late() if late else await self._carry_out(call, told, meter)
            except OutOfTime:
                late, observation = True, _too_late()
            observation = readable(observation, meter.budgets)
            observed.append((call.name, observation.text))
            hopeless |= self._failed_again(call, observation, meter)
            yield Observed(told.id, observation)
        if ours or turn.reply.content:
            self._said += self._format.render(Reply(turn.reply.content, tuple(call for call, _ in ours)))
            self._said += self._format.observe(observed)
        if late:
            raise OutOfTime
        if theirs:
            self._said += self._format.render(Reply("", tuple(call for call, _ in theirs)))
            yield self._ended("calls", meter, tuple(told for _, told in theirs))
        elif hopeless:
            yield self._ended("repeated", meter)

    async def _carry_out(self, call: Call | Malformed, told: Called, meter: Meter) -> Observation:
        if told.wrong or isinstance(call, Malformed):
            return Observation(told.wrong, failed=True)
        observation = await self._box.call(call, meter, tainted=self._agent.tainted)
        self._agent.tainted |= self._box.definitions[call.name].untrusted
        return observation

    def _failed_again(self, call: Call | Malformed, observation: Observation, meter: Meter) -> bool:
        """Whether the same call has now failed as often as it may."""
        if not observation.failed:
            return False
        key = failure_key(call)
        self._failures[key] = self._failures.get(key, 0) + 1
        return self._failures[key] >= meter.budgets.failures

    def _ended(self, why: Ending, meter: Meter, calls: tuple[Called, ...] = ()) -> Ended:
        return Ended(why, self._text, calls, tuple(self._said), meter.tokens, self._agent.tainted)


class _Turn:
    """One turn of the model, from what it says to events and calls."""

    def __init__(self, format: CallFormat, box: Toolbox, ids: Callable[[], str]) -> None:
        self._parser, self._box, self._new_id = format.parser(), box, ids
        self._ids: dict[int, str] = {}
        self._end: str | None = None
        self.calls: list[tuple[Call | Malformed, Called]] = []
        self.cut = False

    @property
    def reply(self) -> Reply:
        return self._parser.reply

    def feed(self, said: Said) -> list[Event]:
        self.cut, self._end = said.cut, said.end
        return [told for part in said.parts for event in self._parser.feed(part) for told in self._told(event)]

    def finish(self) -> list[Event]:
        return [told for event in self._parser.finish(self._end) for told in self._told(event)]

    def _told(self, event: TextDelta | CallBegins | ArgumentsDelta | CallEnds) -> list[Event]:
        if isinstance(event, TextDelta):
            return [Text(event.text)]
        if event.index not in self._ids:
            self._ids[event.index] = self._new_id()
        identity = self._ids[event.index]
        if isinstance(event, CallBegins):
            return [CallBegan(identity, event.name, self._box.by_caller(event.name))]
        if isinstance(event, ArgumentsDelta):
            return [Arguments(identity, event.text)]
        told = self._called(identity, event.call)
        self.calls.append((event.call, told))
        return [told]

    def _called(self, identity: str, call: Call | Malformed) -> Called:
        """The call with what is wrong with it."""
        definition = self._box.definitions.get(call.name)
        code = call.arguments.get(CODE) if isinstance(call, Call) and definition and definition.free_text else None
        return Called(identity, call.name, call.json if isinstance(call, Call) else call.written,
                      self._box.by_caller(call.name), code if isinstance(code, str) else None, self._box.wrong(call))


def _too_late() -> Observation:
    return Observation("Not finished: the time for this answer is over.", failed=True)


def _with_tools(messages: Sequence[Message], format: CallFormat) -> list[Message]:
    """The conversation with what the model is told of its tools in the system message."""
    system = messages[0]["content"] if messages and messages[0]["role"] == "system" else ""
    rest = messages[1:] if messages and messages[0]["role"] == "system" else messages
    told = format.system(system)
    return [*([told] if told is not None else []), *rest]
