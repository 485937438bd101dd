"""A session to type cells into, at every level that this machine has."""

import asyncio
import sys
from functools import cache

import pytest

from headwater.agent.interpreter import interpreter
from headwater.agent.interpreter.interpreter import Interpreter, InterpreterSettings
from headwater.sandbox.isolation import trial


@cache
def problem(level):
    return trial(level)[0] if sys.platform == "linux" else "it needs Linux"


class Notebook:
    """An interpreter, called without an event loop of one's own."""

    def __init__(self, **settings):
        self.loop = asyncio.Runner()
        self.tool = Interpreter(InterpreterSettings(**{"packages": (), "memory_mib": 512, "seconds": 60, **settings}))

    def __call__(self, code):
        return self.loop.run(self.tool.call("python", {"code": code}))

    @property
    def process(self):
        return self.tool._session._process.process

    def close(self):
        self.loop.run(self.tool.close())
        self.loop.close()


@pytest.fixture(params=["full", "reduced"])
def level(request, monkeypatch):
    if problem(request.param):
        pytest.skip(f"{request.param} isolation cannot be had here: {problem(request.param)}")
    monkeypatch.setattr(interpreter, "_walls_found", lambda force: (request.param, ()))
    return request.param


@pytest.fixture
def notebooks():
    """Makes them, at whatever level is found."""
    opened = []

    def one(**settings):
        opened.append(Notebook(**settings))
        return opened[-1]

    yield one
    for notebook in opened:
        notebook.close()


@pytest.fixture
def open_notebook(level, notebooks):
    return notebooks


@pytest.fixture
def cell(open_notebook):
    return open_notebook()
