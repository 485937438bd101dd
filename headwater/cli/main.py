"""The `headwater` command: one command per stage, help and overrides; no logic."""

from __future__ import annotations

import argparse
import atexit
import difflib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NoReturn

from headwater import __version__
from headwater.errors import HeadwaterError, Interrupted, SettingsError
from headwater.recipe.stages import STAGES, Stages, load

TWO_WORDS = {
    "corpus explain": ("say what would happen to a document of a file, and why", "corpus.explain:explain",
                       "corpus.explain:ExplainSettings"),
    "corpus classifier": ("train a classifier of texts from labelled ones",
                          "corpus.classifying.training:train_and_tell", "corpus.classifying.training:TrainSettings"),
    "tokenizer report": ("compare how far tokenizers compress the same text", "tokenizer.report:report",
                         "tokenizer.report:ReportSettings"),
    "tokenizer extend": ("add another tokenizer's pieces to a model", "finetune.vocabulary:extend",
                         "finetune.vocabulary:ExtendSettings"),
    "task predict": ("say what a trained head tells of the texts of a file", "finetune.predict:predict",
                     "finetune.predict:PredictSettings"),
    "context bound": ("say what length a base of RoPE supports and what base a length needs",
                      "context.check:show_bound", "context.check:BoundSettings"),
    "context compare": ("compare the ways to a longer context by perplexity and by what is found again",
                        "context.compare:compare", "context.compare:CompareSettings"),
    "context perplexity": ("measure a model's perplexity by position, by length and in a window that slides",
                           "context.reading:perplexity", "context.reading:PerplexitySettings"),
    "context ablate": ("take positions away from early tokens and tell what later ones lose; tell attention's parts",
                       "context.ablate:ablate", "context.ablate:AblationSettings"),
    "context positions": ("take a model's hidden states apart into positional vectors and meaning",
                          "context.decompose:decompose", "context.decompose:PositionsSettings"),
    "finetune preview": ("show a dialogue as a model will see it, what is learned of it in colour",
                         "finetune.preview:preview", "finetune.preview:PreviewSettings"),
    "reward judge": ("compare a reward model with the preferences of other files", "align.judge:judge",
                     "align.judge:JudgeSettings"),
    "reward preview": ("show a pair as a reward model will read it, where the rewards are taken in colour",
                       "align.preview:preview", "align.preview:PairPreviewSettings"),
    "safety attacks": ("make attacks of the risky requests of files", "align.attacks:attack",
                       "align.attacks:AttackSettings"),
    "study digits": ("train small models to add, with digits split and joined", "studies.digits:run",
                     "studies.digits:DigitSettings"),
    "study scaling": ("predict the loss of a larger model from a ladder of small ones", "studies.scaling:run",
                     "studies.scaling:ScalingSettings"),
    "study dynamics": ("draw any evaluation over the snapshots of a pretraining", "studies.dynamics:run",
                     "studies.dynamics:DynamicsSettings"),
    "study turns": ("train on dialogues causally and turn by turn with prefixes", "studies.turns:run",
                     "studies.turns:TurnsSettings"),
    "study blanks": ("fill blanks with an infilling model and a causal one", "studies.blanks:run",
                     "studies.blanks:BlanksSettings"),
    "study max-z": ("train with and without the max-z loss", "studies.max_z:run",
                     "studies.max_z:MaxZSettings"),
    "study normhead": ("train with a plain head and with NormHead", "studies.norm_head:run",
                     "studies.norm_head:NormHeadSettings"),
    "study norms": ("time RMSNorm and LayerNorm, and train with both", "studies.norms:run",
                     "studies.norms:NormsSettings"),
    "study long-context": ("read small models further by every method: perplexity, and what is found again",
                           "studies.long_context:run", "studies.long_models:LongSettings"),
    "study reward-gap": ("train reward models on planted preferences with and without margins",
                         "studies.reward_gap:run", "studies.reward_gap:RewardGapSettings"),
    "study reward-hacking": ("learn from a flawed reward at several prices of leaving the reference",
                             "studies.reward_hacking:run", "studies.reward_hacking:RewardHackingSettings"),
    "study dual-reward": ("align a finished run's model under two reward models and under one of all pairs",
                          "studies.dual_reward:run", "studies.reward_arms:DualRewardSettings"),
    "study pruning": ("remove blocks of small models in every order, and heal them", "studies.pruning:run",
                      "studies.pruning:PruningSettings"),
    "study quantization": ("pack a model in every form, and hold its loss against its bits",
                           "studies.quantization:run", "studies.quantization:QuantizationSettings"),
    "study heads": ("time and train with all, grouped and single key and value heads", "studies.heads:run",
                     "studies.heads:HeadsSettings")}
"""Commands of two words: purpose, function and settings."""
_FILES = {"corpus explain": ("file", "FILE", "a page, text, JSON lines, Parquet or archive"),
          "tokenizer extend": ("model", "MODEL", "a model folder"),
          "task predict": ("folder", "FOLDER", "what 'headwater task' wrote"),
          "context compare": ("model", "MODEL", "a run's folder, or a model's"),
          "context perplexity": ("model", "MODEL", "a run's folder, or a model's"),
          "context ablate": ("model", "MODEL", "a run's folder, or a model's"),
          "context positions": ("model", "MODEL", "a run's folder, or a model's"),
          "finetune preview": ("files", "FILE", "files of dialogues"),
          "reward judge": ("folder", "FOLDER", "what 'headwater reward' wrote"),
          "reward preview": ("files", "FILE", "files of preferences"),
          "safety attacks": ("files", "FILE", "files of prompts; XSTest or AdvBench as they are published"),
          "study dynamics": ("source", "RUN", "a run's folder, or its pretraining's, with snapshots")}
"""What they take before their settings; `files` are one or more."""

_PRINT_ONLY = ("corpus explain", "context bound", "finetune preview", "reward preview")
"""Those that need no folder for what they make."""

# Everything else is imported by the command that uses it: `headwater --help` answers at once.


class _Parser(argparse.ArgumentParser):
    """A parser whose help ends with the settings of its command."""

    settings: str | None = None
    """`module:class`."""
    commands: Collection[str] = ()

    def format_help(self) -> str:
        if self.settings is None:
            return super().format_help()
        from headwater.cli.describe import describe

        usage, gap, rest = super().format_help().partition("\n\n")
        return f"{usage} [NAME=VALUE ...]{gap}{rest}\n{describe(load(self.settings))}\n"

    def error(self, message: str) -> NoReturn:
        where = None if self.prog == "headwater" else self.prog
        raise SettingsError(message, where=where, fix=f"see {self.prog} --help")


def main(argv: Sequence[str] | None = None, *, stages: Stages = STAGES) -> int:
    """Run one command; returns the exit code (0, 2 for the user's mistake, 130 when stopped, else 1)."""
    words = _joined(list(sys.argv[1:] if argv is None else argv))
    try:
        return _together(words, stages)
    except HeadwaterError as error:
        print(error if str(error).startswith("headwater ") else f"headwater: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("headwater: stopped", file=sys.stderr)
        return Interrupted.exit_code
    except BrokenPipeError:
        # The reader (head, less) has gone; what is still to be flushed goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        from headwater.recipe.interruption import unexpected

        told = unexpected(error, Path(tempfile.mkdtemp(prefix="headwater-")), doing=words[0])
        print(f"headwater: {told}", file=sys.stderr)
        return told.exit_code


def _joined(words: list[str]) -> list[str]:
    """`corpus explain FILE` as one command of two words, a mistyped second one too, so that it is known for none."""
    pair = " ".join(words[:2])
    second = words[1:2] and not words[1].startswith("-") and "=" not in words[1]
    mistyped = second and any(known.startswith(f"{words[0]} ") for known in TWO_WORDS)
    return [pair, *words[2:]] if pair in TWO_WORDS or mistyped else words


def command() -> None:
    """What the installed `headwater` does: `main`, then the end of the process.

    The interpreter is not wound down: native threads, of the data engine, of gloo or of OpenMP, may still be at work,
    and would abort the process, hide its exit code, or (seen on a busy machine) keep it from ending.
    """
    # Set before PyTorch loads OpenMP. Its threads would spin long at every barrier: where another process wants a
    # core, that makes training three times slower; waiting this briefly costs 2 % on a quiet machine.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that half-written files are removed
    code = main()
    if code == 0 and "TORCHELASTIC_RUN_ID" not in os.environ:
        atexit._run_exitfuncs()  # pools and temporary files of libraries
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        code = code or 1
    os._exit(code)


def _together(words: list[str], stages: Stages) -> int:
    """Run the command; of several processes that `torchrun` started the first does, and calls the others."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "RANK" not in os.environ:
        _run(words, stages)
        return 0
    from headwater.recipe.companions import follow, leading

    if int(os.environ["RANK"]) > 0:
        return follow(stages)
    with leading():
        _run(words, stages)
    return 0


def _run(words: list[str], stages: Stages) -> None:
    arguments, overrides = _parse(words, stages)
    arguments.act(arguments, overrides, [_program(), *words], stages)


def _program() -> str:
    """How this program is called from here, for the commands that messages and reports show."""
    started = Path(sys.argv[0])
    found = shutil.which("headwater")
    if started.name != "headwater" or (found is not None and os.path.samefile(found, started)):
        return "headwater"
    nearer = os.path.relpath(started)
    return nearer if not nearer.startswith("..") else str(started)


def _run_recipe(arguments: Any, overrides: list[str], command: list[str], stages: Stages) -> None:
    from headwater.recipe.recipe import load_recipe
    from headwater.recipe.walk import walk

    walk(load_recipe(arguments.recipe, overrides, stages=stages), arguments.out, command)


def _print_settings(arguments: Any, overrides: list[str], command: list[str], stages: Stages) -> None:
    from headwater.recipe.recipe import load_recipe

    print(load_recipe(arguments.recipe, overrides, stages=stages).as_yaml(), end="")


def _run_stage(arguments: Any, overrides: list[str], command: list[str], stages: Stages) -> None:
    from headwater.recipe.recipe import load_stage
    from headwater.recipe.walk import run_alone

    overrides = [*_named_models(getattr(arguments, "models", [])), *overrides]
    run_alone(load_stage(stages[arguments.command], overrides), arguments.out, command)


def _named_models(folders: list[Path]) -> list[str]:
    """Settings that name models by their folders; of two folders of one name the second is NAME-2. A dot would part a
    setting's name."""
    from headwater.generate.run_folder import find_model
    from headwater.progress import say

    found: dict[str, Path] = {}
    for folder in folders:
        name = folder.resolve().name.replace(".", "-")
        called = next(one for one in (name, *(f"{name}-{number}" for number in range(2, len(folders) + 2)))
                      if one not in found)
        found[called] = find_model(folder)
        if called != folder.resolve().name:
            say(f"{folder} is called {called}")
    return [f"models.{name}.path={json.dumps(str(path))}" for name, path in found.items()]


def _report(arguments: Any, overrides: list[str], command: list[str], stages: Stages) -> None:
    from headwater.recipe.report import write_report

    print(write_report(arguments.folder))


def _plan(arguments: Any, overrides: list[str], command: list[str], stages: Stages) -> None:
    from headwater.cli.plan import plan_command

    plan_command(arguments.model, overrides)


def _mcp(arguments: Any, overrides: list[str], command: list[str], stages: Stages) -> None:
    from headwater.agent.mcp_server import McpServeSettings, serve
    from headwater.settings import with_overrides

    settings = McpServeSettings.parse(with_overrides({}, overrides), where="headwater mcp")
    serve(arguments.folder, stages.values(), settings)


def _direct(function: str, settings: str, *names: str) -> Callable[..., Any]:
    """A command that is a function of its arguments and its settings."""
    def act(arguments: Any, overrides: list[str], command: list[str], stages: Stages) -> Any:
        from headwater.settings import with_overrides

        named = [f"tools.{name}={{}}" for name in getattr(arguments, "tools", "").split(",") if name]
        parsed = load(settings).parse(with_overrides({}, [*named, *overrides]), where=f"headwater {arguments.command}")
        return load(function)(*(getattr(arguments, name) for name in names), parsed)

    return act


def _parse(words: list[str], stages: Stages) -> tuple[argparse.Namespace, list[str]]:
    parser = _parser(stages)
    if not words:
        raise SettingsError("no command", fix="headwater --help lists the commands")
    _check_command(words, parser.commands)
    arguments, rest = parser.parse_known_args(words)
    for name in ("files", "models"):
        if name in arguments:  # they take every word that follows
            rest += [word for word in getattr(arguments, name) if "=" in word]
            setattr(arguments, name, [Path(word) for word in getattr(arguments, name) if "=" not in word])
    if "files" in arguments and not arguments.files:
        raise SettingsError(f"'headwater {arguments.command}' needs a FILE", fix="give one or more before settings")
    unknown = [word for word in rest if word.startswith("-") or "=" not in word]
    if unknown:
        name = unknown[0].lstrip("-").partition("=")[0].replace("-", "_")
        if name.endswith((".yaml", ".yml")):
            raise SettingsError(f"'{arguments.command}' takes no settings file", where=unknown[0],
                                fix="write its settings below stages: in a recipe, for 'headwater run RECIPE'")
        raise SettingsError(f"'{unknown[0]}' is no argument of 'headwater {arguments.command}'",
                            fix=f"write settings as {name or 'NAME'}=VALUE; see headwater {arguments.command} --help")
    return arguments, rest


def _check_command(words: list[str], known: Collection[str]) -> None:
    word = words[0]
    seconds = [name.partition(" ")[2] for name in known if name.startswith(f"{word} ")]
    if seconds and words[1:2] in (["--help"], ["-h"]) and word not in known:
        print("\n".join(f"headwater {word} {name:12} {TWO_WORDS[f'{word} {name}'][0]}" for name in seconds))
        raise SystemExit(0)
    if seconds and word not in known:
        raise SettingsError(f"'{word}' is followed by one of {', '.join(seconds)}",
                            fix=f"headwater {word} {seconds[0]} --help says what the first does")
    if not word.startswith("-") and word not in known:
        nearest = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
        raise SettingsError(f"unknown command '{word}'", fix=f"did you mean '{nearest[0]}'?" if nearest
                            else f"known: {', '.join(known)}")


Adding = Callable[..., argparse.ArgumentParser]
"""Adds a command: its name, purpose, function and settings."""


def _parser(stages: Stages) -> _Parser:
    parser = _Parser(
        prog="headwater", description="Open bilingual (Chinese and English) language models, from raw pages to chat.",
        epilog="Settings are given as NAME=VALUE after a command; 'headwater COMMAND --help' lists them.")
    parser.add_argument("--version", action="version", version=f"headwater {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    parser.commands = commands.choices

    def add(name: str, purpose: str, act: Callable[..., Any], settings: str | None = None) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}.")
        one.set_defaults(act=act)
        one.settings = settings
        return one

    _add_runs(add, stages)
    _add_two_words(add)
    _add_models(add)
    _add_index(add)
    return parser


def _add_runs(add: Adding, stages: Stages) -> None:
    """Recipes, their stages, and what is done with a run's folder."""
    recipe = "headwater.recipe.recipe:Recipe"
    run = add("run", "walk a recipe from raw pages to a chat model", _run_recipe, recipe)
    run.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the run is kept")
    shown = add("settings", "print a recipe with every setting written out", _print_settings, recipe)
    for one in (run, shown):
        one.add_argument("recipe", metavar="RECIPE", help="a YAML file, or the name of a shipped recipe")
        one.epilog = ("'headwater STAGE --help' lists a stage's settings; pretrain.trainer.steps=10 is short for "
                      "stages.pretrain.trainer.steps=10.")
    for name, stage in stages.items():
        one = add(name, stage.purpose, _run_stage, stage.settings_path)
        one.add_argument("--out", type=Path, required=True, metavar="DIR", help="the stage's own folder; ${NAME} in a "
                         "setting stands for the folder NAME beside it")
        if name == "evaluate":
            one.add_argument("models", nargs="*", metavar="MODEL", help="folders of models or runs, which are named "
                             "after their folders; or give models.NAME.path=FOLDER")
    one = add("report", "write a run's report again", _report)
    one.add_argument("folder", type=Path, metavar="DIR", help="a run's folder")
    one = add("mcp", "offer the stages to other programs (MCP over standard input and output)", _mcp,
              "headwater.agent.mcp_server:McpServeSettings")
    one.add_argument("folder", type=Path, metavar="DIR", help="the folder in which they may read and write")
    for name, purpose, function, settings in (
            ("chat", "talk to the last model of a run", "terminal:chat", "terminal:ChatSettings"),
            ("serve", "serve the last model of a run: OpenAI-compatible API and chat page", "server:serve",
             "server:ServeSettings")):
        room = "headwater.serve."
        one = add(name, purpose, _direct(room + function, room + settings, "folder"), room + settings)
        one.add_argument("folder", type=Path, metavar="DIR", help="a run's folder, or a model's")
        one.add_argument("--tools", default="", metavar="NAME,...", help="tools that the model may call: python, "
                         "browser, cogview; their settings are tools.NAME.SETTING=VALUE")


def _add_two_words(add: Adding) -> None:
    for name, (purpose, function, settings) in TWO_WORDS.items():
        taken = [_FILES[name]] if name in _FILES else []
        names = [argument for argument, _, _ in taken] + ([] if name in _PRINT_ONLY else ["out"])
        one = add(name, purpose, _direct(f"headwater.{function}", f"headwater.{settings}", *names),
                  f"headwater.{settings}")
        for argument, metavar, meaning in taken:
            several: dict[str, Any] = {"nargs": "+"} if argument == "files" else {"type": Path}
            one.add_argument(argument, metavar=metavar, help=meaning, **several)
        if "out" in names:
            one.add_argument("--out", type=Path, required=True, metavar="DIR", help="where it is written")


def _add_models(add: Adding) -> None:
    """Models in other forms, and what they need."""
    room = "headwater.model.convert:"
    one = add("convert", "write a model folder again in an official form",
              _direct(room + "convert", room + "ConvertSettings", "source", "target"), room + "ConvertSettings")
    one.add_argument("source", type=Path, metavar="SRC", help="a model folder of any family")
    one.add_argument("target", type=Path, metavar="DST", help="where the new folder is written")
    room = "headwater.compress.gguf:"
    one = add("gguf", "write a model as a GGUF file, for llama.cpp and what is built on it",
              _direct(room + "export", room + "GgufSettings", "folder", "target"), room + "GgufSettings")
    one.add_argument("folder", type=Path, metavar="MODEL", help="a run's folder, or a model's; a float model: of a run "
                     "that ends with a packed one give the stage before, like RUN/finetune")
    one.add_argument("target", type=Path, metavar="FILE", help="where it is written: NAME.gguf")
    one = add("plan", "say what a model needs in memory and compute", _plan, "headwater.cli.plan:PlanSettings")
    one.add_argument("model", metavar="MODEL", help="an open model's official name, a run's or a model's folder, or a "
                     "recipe, whose settings may follow too")


def _add_index(add: Adding) -> None:
    """What a model that calls tools searches."""
    room = "headwater.agent.browser.building:"
    one = add("index", "make an index of a corpus, which a model that browses searches without a network",
              _direct(room + "index", room + "IndexSettings", "corpus", "out"), room + "IndexSettings")
    one.add_argument("corpus", type=Path, metavar="CORPUS", help="a folder that 'headwater corpus' wrote, or a file or "
                     "folder of pages, texts, JSON lines, Parquet or archives")
    one.add_argument("--out", type=Path, required=True, metavar="FILE", help="where the index is written; one that is "
                     "there is brought up to date")


if __name__ == "__main__":
    command()
