from __future__ import annotations

import asyncio

import pytest

from headwater.errors import InputError
from headwater.generate import Engine, SamplingParams
from headwater.generate.worker import Ticket, Unavailable, Worker

GREEDY = SamplingParams(temperature=0, max_tokens=20)


async def text_of(ticket: Ticket) -> str:
    return "".join([delta.text async for delta in ticket])


def test_concurrent_tickets_get_what_the_engine_gives(engine: Engine, prompts: list[list[int]]) -> None:
    expected = [answer.text for answer in engine.generate(prompts, GREEDY)]
    worker = Worker(engine)

    async def all_at_once() -> list[str]:
        return await asyncio.gather(*(text_of(worker.submit(prompt, GREEDY)) for prompt in prompts))

    assert asyncio.run(all_at_once()) == expected
    assert worker.load.answered == len(prompts)
    worker.close()


def test_a_full_queue_refuses_and_accepted_requests_are_answered(engine: Engine, prompts: list[list[int]]) -> None:
    worker = Worker(engine, max_queue=2)

    async def overload() -> int:
        tickets: list[Ticket] = []

        def fill() -> None:
            while len(tickets) < 100:
                tickets.append(worker.submit(prompts[4], SamplingParams(max_tokens=60, seed=1)))

        with pytest.raises(Unavailable, match="the most this server queues"):
            fill()
        texts = await asyncio.gather(*map(text_of, tickets))
        assert len(set(texts)) == 1
        return len(tickets)

    assert asyncio.run(overload()) < 100
    worker.close()


def test_requests_take_turns_however_many_parts_they_have(engine: Engine, prompts: list[list[int]]) -> None:
    worker = Worker(engine, max_queue=8)
    ended: list[str] = []

    async def heard(name: str, ticket: Ticket) -> None:
        await text_of(ticket)
        ended.append(name)

    async def crowd() -> None:
        many = [engine.prepare(prompts[0], GREEDY) for _ in range(10 * engine.max_batch)]
        large = [heard("large", one) for one in worker.submit_all(many)]  # nobody waits: more than the queue holds
        with pytest.raises(Unavailable):
            worker.submit_all(many[:4])
        await asyncio.gather(*large, heard("small", worker.submit(prompts[1], GREEDY)))

    asyncio.run(crowd())
    assert len(ended) == 10 * engine.max_batch + 1
    assert ended.index("small") < 4 * engine.max_batch
    worker.close()


def test_what_waits_and_is_cancelled_or_left_at_the_end_is_told(engine: Engine, prompts: list[list[int]]) -> None:
    engine.stop_ids = frozenset()
    worker = Worker(engine)

    async def leave() -> list[str | None]:
        tickets = worker.submit_all([engine.prepare(prompts[0], SamplingParams(max_tokens=90))
                                     for _ in range(3 * engine.max_batch)])
        deltas = aiter(tickets[0])
        await anext(deltas)
        tickets[-1].cancel()
        assert [delta.finish_reason async for delta in tickets[-1]] == ["cancelled"]
        await asyncio.to_thread(worker.close)
        return [[delta.finish_reason async for delta in one][-1] for one in (*tickets[1:-1],)]

    assert set(asyncio.run(leave())) <= {"cancelled", "length"}
    assert not engine.busy


def test_cancelling_a_ticket_ends_it_and_frees_the_slot(engine: Engine, prompts: list[list[int]]) -> None:
    engine.stop_ids = frozenset()
    worker = Worker(engine)

    async def leave() -> str | None:
        ticket = worker.submit(prompts[0], SamplingParams(seed=1, max_tokens=90))
        reason = None
        async for delta in ticket:
            ticket.cancel()
            reason = delta.finish_reason
        return reason

    assert asyncio.run(leave()) == "cancelled"
    worker.close()
    assert not engine.busy


def test_closing_ends_what_runs_and_refuses_what_comes(engine: Engine, prompts: list[list[int]]) -> None:
    engine.stop_ids = frozenset()
    worker = Worker(engine)

    async def close_midway() -> str | None:
        ticket = worker.submit(prompts[0], SamplingParams(seed=1, max_tokens=90))
        deltas = aiter(ticket)
        await anext(deltas)
        await asyncio.to_thread(worker.close)
        reasons = [delta.finish_reason async for delta in deltas]
        with pytest.raises(Unavailable, match="shutting down"):
            worker.submit(prompts[0], GREEDY)
        return reasons[-1]

    assert asyncio.run(close_midway()) in ("cancelled", "length")
    assert not worker.alive


def test_a_bad_prompt_is_refused_at_once(engine: Engine) -> None:
    worker = Worker(engine)

    async def submit() -> None:
        worker.submit([], GREEDY)

    with pytest.raises(InputError, match="empty"):
        asyncio.run(submit())
    worker.close()


def test_a_failing_step_fails_its_requests_and_the_next_ones_work(
        engine: Engine, prompts: list[list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    expected = engine.generate([prompts[3]], GREEDY)[0].text
    worker = Worker(engine)

    async def ask() -> str:
        return await text_of(worker.submit(prompts[3], GREEDY))

    with monkeypatch.context() as broken:
        broken.setattr(engine.model.head, "forward", lambda hidden: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            asyncio.run(ask())
    assert asyncio.run(ask()) == expected
    worker.close()
