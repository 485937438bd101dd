"""`headwater serve`: a run's model behind HTTP."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, model_validator

from headwater.agent.offer import LONGER, ToolsSettings, kinds_of, told_tokens
from headwater.artifacts import read_json
from headwater.errors import InputError, SettingsError
from headwater.generate.engine import Engine
from headwater.generate.run_folder import find_model
from headwater.generate.sampling import SamplingParams
from headwater.generate.worker import Worker
from headwater.model.cache import CacheForm
from headwater.model.extension import ContextSettings
from headwater.model.packed import Base
from headwater.progress import say
from headwater.settings import Settings
from headwater.tokenizer.fitting import require_template

if TYPE_CHECKING:
    import uvicorn
    from starlette.applications import Starlette

    from headwater.serve.server_tools import ServerTools


class ServeSettings(Settings):
    """Where and how to serve."""

    host: str = "127.0.0.1"
    """127.0.0.1 answers this machine alone; 0.0.0.0 answers the network: give `api_keys` then."""
    port: int = Field(default=8000, ge=0, le=65535)
    """0 takes a free one."""
    max_batch: int = Field(default=8, gt=0)
    """Requests answered at once; each holds a whole context of keys and values."""
    max_length: int | None = Field(default=None, gt=1)
    """Tokens of context per request; the model's own when not set."""
    adapters: dict[str, Path] = {}
    """Folders of adapters of the model by the names that requests give as their `model`; none is merged with it."""
    base: Base | None = None
    """The form into which the model's matrices are packed; as they are stored when not set."""
    prompt_cache: int = Field(default=256, ge=0)
    """MiB for keys and values of prompts that were read, so that a later one that begins alike (a chat's next turn, the
    same system message) is read from where it differs; 0 keeps none."""
    cache: CacheForm | None = None
    """int8: keys and values in a byte each, in half of bfloat16's memory; in the model's own type when not set."""
    context: ContextSettings = ContextSettings()
    """A longer context than the model's own."""
    force_template: bool = False
    """Use the tokenizer's chat template even where the checkpoint records another."""
    temperature: float = Field(default=0.3, ge=0, le=2)
    """Of requests that name none; OpenAI's is 1, at which a small model wanders."""
    top_p: float = Field(default=0.9, ge=0, le=1)
    """Of requests that name none; OpenAI's is 1."""
    max_queue: int = Field(default=64, ge=0)
    """Requests that may wait; further ones get 429."""
    max_body: int = Field(default=1 << 20, gt=0)
    """Largest request body, in bytes."""
    max_seconds: float | None = Field(default=600, gt=0)
    """Longest answer; it ends with what it has, "finish_reason": "length" and "stop_reason": "timeout"."""
    max_unread: float | None = Field(default=60, gt=0)
    """Seconds after which a client is left that does not read what was sent."""
    max_choices: int = Field(default=16, gt=0)
    """Most answers to one prompt (`n`)."""
    max_prompts: int = Field(default=256, gt=0)
    """Most prompts in one request for completions, each counted `n` times, and most inputs of one for embeddings."""
    api_keys: list[Annotated[str, Field(min_length=1)]] = []
    """Of which requests below /v1 and for /metrics carry one ("Authorization: Bearer KEY"); with those that the
    environment's HEADWATER_API_KEYS names, between commas, which other users of this machine cannot see. None: whoever
    reaches the server may ask."""
    open_metrics: bool = False
    """Whether /metrics is read without a key."""
    origins: list[Annotated[str, Field(pattern=r"^(\*|https?://[^/\s]+)$")]] = []
    """Pages elsewhere whose scripts may ask, as "https://example.org"; "*" for all. Without keys those of other origins
    get 403, and a server on 127.0.0.1 answers under this machine's names and those of these origins alone."""
    graceful_seconds: float = Field(default=5, ge=0)
    """Given to answers under way when the server ends; new requests get 503 meanwhile. Answers that are left then end
    with what they have, "stop_reason": "closing"."""
    name: str | None = None
    """The model's name in the API; the folder's own when not set."""
    tools: ToolsSettings = ToolsSettings()
    """Of the server's own, which requests may ask for beside their functions."""
    max_sessions: int = Field(default=8, gt=0)
    """Answers and sessions at once that may run programs of tools, each in processes of its own; the session that has
    waited longest gives way to a new answer, and where none waits that gets 429."""
    session_seconds: float = Field(default=600, ge=0)
    """That what tools hold for a session waits for its next answer; 0 ends it with every answer."""

    @model_validator(mode="after")
    def _sessions_are_of_programs(self) -> Self:
        if "max_sessions" in self.model_fields_set and not self.tools.programs:
            raise ValueError("max_sessions bounds programs of tools, and no tool here runs any")
        if "session_seconds" in self.model_fields_set and not self.tools.model_fields_set:
            raise ValueError("session_seconds is about tools, and no tool is here")
        return self


def serve(folder: Path, settings: ServeSettings | None = None) -> None:
    """Serve the last model of a run (or a model folder) until Ctrl-C or SIGTERM; the URL goes to standard output.

    Raises `InputError` without a model, `SettingsError` for an address that cannot be had, `MissingExtraError`.
    """
    from headwater.serve.app import make_app
    from headwater.serve.limits import Limits
    from headwater.serve.server_tools import ServerTools
    from headwater.serve.stopping import GracefulServer

    settings = settings or ServeSettings()

    model, name = find_model(folder), settings.name or model_name(Path(folder))
    if name in settings.adapters:
        raise SettingsError(f"an adapter and the model are both called {name}", where="adapters",
                            fix="give the adapter another name, or the model: name=...")
    tools = ServerTools(kinds_of(settings.tools), settings.tools.budgets, settings.max_sessions,
                        settings.session_seconds)
    listener = listen(settings.host, settings.port)
    say(f"loading {model}")
    engine = Engine.load(model, max_batch=settings.max_batch, max_length=settings.max_length, context=settings.context,
                         base=settings.base, adapters=settings.adapters, cache=settings.cache,
                         kept_bytes=settings.prompt_cache << 20)
    # a model without a chat format, or tuned with another one, is told now and not at every request
    require_template(engine.tokenizer, model, force=settings.force_template)
    _tell_what_cannot_be_told(engine, tools)
    worker = Worker(engine, max_queue=settings.max_queue)
    limits = Limits(settings.max_body, settings.max_seconds, settings.max_choices, settings.max_prompts,
                    settings.max_unread)
    app = make_app(worker, name, limits=limits, examples=examples(Path(folder)), origins=settings.origins,
                   open_metrics=settings.open_metrics, hosts=_hosts(listener), tools=tools,
                   defaults=SamplingParams(temperature=settings.temperature, top_p=settings.top_p),
                   keys=[*settings.api_keys, *filter(None, os.environ.get("HEADWATER_API_KEYS", "").split(","))])
    try:
        with suppress(KeyboardInterrupt):  # the usual way to end a server; uvicorn has closed everything by now
            GracefulServer(uvicorn_config(app), app.state.service, settings.graceful_seconds,
                           _said(listener)).run([listener])
    finally:
        worker.close()
        listener.close()


def _tell_what_cannot_be_told(engine: Engine, tools: ServerTools) -> None:
    for name, kind in tools.kinds.items():
        if (tokens := told_tokens(engine.tokenizer, [kind])) >= engine.max_length:
            say(f"note: no request can have {name}: what the model is told of it takes {tokens} tokens, the context "
                f"holds {engine.max_length} ({LONGER})")


def uvicorn_config(app: Starlette) -> uvicorn.Config:
    """How the application is served."""
    import uvicorn

    from headwater.serve.connections import PatientProtocol

    return uvicorn.Config(app, log_level="warning", server_header=False, http=PatientProtocol)


def model_name(folder: Path) -> str:
    """What the model is called in the API: the run's own name."""
    return folder.resolve().name or "headwater"


def examples(folder: Path) -> list[str]:
    """What the run's report asked the model: the first questions of each conversation."""
    try:
        samples = read_json(folder / "evaluate" / "samples.json")
        asked = [[message["content"] for message in sample["messages"] if message["role"] == "user"]
                 for sample in samples]
    except (InputError, TypeError, KeyError):
        return []
    return list(dict.fromkeys(question for questions in asked for question in questions[:2]))[:6]


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; taken before the model is loaded, so that a port in use is told at once."""
    try:
        socket.getaddrinfo(host, port)
    except OSError as error:
        raise SettingsError(f"'{host}' is no address ({error.strerror or error})", where="host",
                            fix="give 127.0.0.1, 0.0.0.0 or an address of this machine") from None
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        elsewhere = error.errno == errno.EADDRNOTAVAIL
        raise SettingsError(f"cannot listen on {host}:{port}: {error.strerror or error}",
                            where="host" if elsewhere else "port", fix="give an address of this machine" if elsewhere
                            else "choose another port; port=0 takes a free one") from None
    return listener


def _hosts(listener: socket.socket) -> list[str] | None:
    """Names for this machine alone, where the server answers nobody else; None: any."""
    host = listener.getsockname()[0]
    return ["localhost", "127.0.0.1", "::1", host] if ipaddress.ip_address(host).is_loopback else None


def _said(listener: socket.socket) -> str:
    url = _url(listener)
    return f"chat page: {url}\nAPI:       {url}/v1   (Ctrl-C stops)"


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}"
