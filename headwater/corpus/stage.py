"""The corpus stage: sources to train, validation and removed documents, and the funnel between them."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from headwater.artifacts import hash_json, read_json, sweep_temporaries, write_json
from headwater.corpus.extraction.extract import extract
from headwater.corpus.funnel import examples, funnel, funnel_table, leaked, masked
from headwater.corpus.judging.language import check_languages
from headwater.corpus.ledger import Ledger
from headwater.corpus.mix import MixSettings, Share, copies, mix_table, shortfall
from headwater.corpus.passes.cuts import count_cuts, cut_sentences, read_cuts, sampled_cuts
from headwater.corpus.passes.engine import EngineSettings, import_daft
from headwater.corpus.passes.examining import EXAMINED, consulted, examine_units, identity
from headwater.corpus.passes.writing import write_units
from headwater.corpus.reading.columns import check_columns
from headwater.corpus.reading.sources import Shard, Source, list_shards
from headwater.corpus.reading.units import Unit, plan_units
from headwater.corpus.steps import PRIVATE, SENTENCES, StepSettings
from headwater.documents import LEAKS, PARTS
from headwater.errors import InputError, SettingsError
from headwater.progress import bar, say, show
from headwater.storage import Store

Figures = dict[str, float]
SCRATCH = ".work/scratch"
OWNER = "owner/corpus.json"
FINISHED = "checkpoints/finished.json"
"""From what the corpus was made. It lies where no later stage looks, since it tells of times."""


def _atlas() -> list[Source]:
    return [Source(path=Path("${atlas}/pages"), format="html", name="atlas")]


class CorpusSettings(StepSettings):
    """The sources, the steps (see `StepSettings`) and the share of documents held out for validation."""

    sources: Annotated[list[Source], Field(min_length=1)] = Field(default_factory=_atlas)
    """Files and folders of raw documents."""
    validation_share: Annotated[float, Field(ge=0, lt=1)] = 0.02
    """Share of the kept documents that is held out, drawn by their content."""
    engine: EngineSettings = EngineSettings()
    """What does the work."""
    store: str | None = None
    """A folder that every worker sees, or an object store (s3://bucket/prefix), for the documents and the work under
    way; the stage's own folder when not set. One store holds one corpus."""


def run(settings: CorpusSettings, out: Path) -> Figures:
    """Write `{train,validation,removed}/*.parquet`, `out/parts.json`, which names them, and `out/funnel.json`; where
    benchmarks are sought, also `out/leaks.json`, which names the questions that were found.

    Returns the funnel's figures. Killed and called again it goes on after the last part that was committed and writes
    the same bytes; what is finished is not done again. Raises `InputError` for a missing or empty source, a table
    without the text column, or when no document is left.
    """
    _check_mix(settings)
    shards = list_shards(settings.sources)
    check_columns(shards)
    _check_extras(shards, settings)
    out.mkdir(parents=True, exist_ok=True)
    sweep_temporaries(out)
    store = _store(settings, out)
    if settings.store is not None:
        _claim(store, out)
    units = plan_units(shards)
    origin = hash_json([settings.model_dump(mode="json", exclude={"engine"}), consulted(settings),
                        [identity(unit) for unit in units]])
    if not _is_finished(out, store, origin):
        for record in (FINISHED, PARTS):
            (out / record).unlink(missing_ok=True)
        _build(settings, units, store, out)
        write_json(out / FINISHED, origin)
    store.remove(".work")
    shutil.rmtree(out / ".work", ignore_errors=True)
    sweep_temporaries(out)
    return _figures(read_json(out / "funnel.json"))


def _store(settings: CorpusSettings, out: Path) -> Store:
    """By a name that holds in any working folder."""
    if settings.store is not None and "://" in settings.store:
        return Store(settings.store)
    return Store((out if settings.store is None else Path(settings.store)).absolute())


def _is_finished(out: Path, store: Store, origin: str) -> bool:
    """Whether an earlier call got as far as the last step, cleaning up, from the same settings and files."""
    if not (out / FINISHED).exists() or not (out / PARTS).exists() or read_json(out / FINISHED) != origin:
        return False
    named = {file["name"] for files in read_json(out / PARTS)["splits"].values() for file in files}
    return named <= {name for folder in {name.rpartition("/")[0] for name in named} for name in store.names(folder)}


def _build(settings: CorpusSettings, units: list[Unit], store: Store, out: Path) -> None:
    """Everything up to `parts.json`."""
    examined = examine_units(units, settings, settings.engine, store)
    ledger = Ledger(store, examined.files(EXAMINED), settings)
    basis = [settings.model_dump(mode="json", exclude={"engine"}), [file.sha256 for file in ledger.files]]
    with bar("corpus: comparing documents"):
        ledger.deduplicate(examined, out / SCRATCH)
    cuts, changes, sentences = None, {PRIVATE: masked(store, ledger.files)}, []
    if settings.repeated_sentences is not None:
        cuts = cut_sentences(ledger, settings.repeated_sentences, examined, settings.engine, out / SCRATCH, basis)
        ledger.apply_cuts(read_cuts(ledger, cuts, examined), settings.min_tokens)
        changes[SENTENCES], sentences = count_cuts(cuts), sampled_cuts(cuts)
    shutil.rmtree(out / SCRATCH, ignore_errors=True)
    validation = ledger.validation(settings.validation_share)
    written, shares = _mix(ledger, validation, settings.mix)
    missed = shortfall(settings.mix, shares) if settings.mix is not None else ""
    values = funnel(ledger, validation, changes) | {"mix": [asdict(share) for share in shares], "mix_shortfall": missed}
    splits = write_units(ledger, validation, written, examined, cuts, settings.engine, basis)
    values["examples"] = examples(store, splits["removed"], ledger.steps)
    if sentences:
        values["examples"][SENTENCES] = [*values["examples"].get(SENTENCES, []), *sentences]
    write_json(out / "funnel.json", values)
    if settings.contamination is not None:
        write_json(out / LEAKS, leaked(store, ledger.files, settings.contamination))
    show(funnel_table(values))
    if shares:
        show(mix_table(shares))
    if missed:
        say(f"corpus: the mix is not as wanted: {missed}")
    if not values["kept"]["train"]["documents"]:
        raise _nothing_left(values, settings, store)
    named = {name: [asdict(file) for file in files] for name, files in splits.items()}
    write_json(out / PARTS, {"store": store.place if settings.store else None, "splits": named})


def _mix(ledger: Ledger, validation: NDArray[np.bool_], settings: MixSettings | None
         ) -> tuple[NDArray[np.int16], list[Share]]:
    """How often each document is written; what the mix leaves out is removed by the step "mix"."""
    written = np.ones(len(ledger), np.int16)
    if settings is None:
        return written, []
    rows = ledger.kept[~validation[ledger.kept]]
    column = ledger.source if settings.by == "source" else ledger.language
    try:
        written[rows], shares = copies(settings, column.codes[rows], column.names, ledger.tokens[rows],
                                       ledger.score[rows], ledger.draw()[rows])
    except ValueError as error:
        raise SettingsError(str(error), where="mix.shares", fix=f"name groups by {settings.by}") from None
    ledger.leave_out(rows[written[rows] == 0])
    return written, shares


def _check_mix(settings: CorpusSettings) -> None:
    """What can be said of the mix's groups before the work."""
    names = sorted({source.label for source in settings.sources})
    wanted = settings.mix.shares or {} if settings.mix is not None and settings.mix.by == "source" else {}
    unknown = sorted(set(wanted) - set(names))
    if unknown:
        raise SettingsError(f"no source is named '{unknown[0]}' (there are: {', '.join(names)})", where="mix.shares",
                            fix="name the sources, each by its `name` or the last part of its path")


def _claim(store: Store, out: Path) -> None:
    """Keep in the store whose corpus it holds. Raises `InputError` when it is another folder's."""
    mine = str(out.absolute())
    owner = store.get_json(OWNER) if store.names("owner") else mine
    if owner != mine:
        raise InputError(f"this store holds the corpus of {owner}", where=store.uri(""),
                         fix=f"give another store for this one, or remove {OWNER} there if that corpus is done with")
    store.put_json(OWNER, mine)


def _check_extras(shards: list[Shard], settings: CorpusSettings) -> None:
    """Import what the run will need now, so that a missing package is said before the work and not after."""
    import_daft(settings.engine)
    check_languages(settings.languages or ())
    if any(shard.format in ("html", "warc") for shard in shards):
        extract("<p>a text</p>", settings.extractor)


def _nothing_left(values: dict[str, Any], settings: CorpusSettings, store: Store) -> InputError:
    found = values["steps"][0]["documents_in"]
    where = ", ".join(str(source.path) for source in settings.sources)
    if not found:
        return InputError("the sources hold no document at all", where=where, fix="give a source with documents")
    lost = [f"{step['step']} removed {step['documents_in'] - step['documents_out']} ({', '.join(step['reasons'])})"
            for step in values["steps"] if step["documents_in"] > step["documents_out"]]
    held = values["kept"]["validation"]["documents"]
    lost += [f"validation took {held}"] if held else []
    return InputError(f"no document is left of {found}: {'; '.join(lost)}", where=where,
                      fix=f"see {store.uri('removed')} for the reasons, then change the sources or that step")


def _figures(values: dict[str, Any]) -> Figures:
    kept = values["kept"].values()
    figures: Figures = {"documents": values["steps"][0]["documents_in"],
                        "kept": sum(split["documents"] for split in kept)}
    for step in values["steps"]:
        figures[f"removed.{step['step']}"] = step["documents_in"] - step["documents_out"]
    figures["validation"] = values["kept"]["validation"]["documents"]
    for name in ("characters", "bytes", "tokens"):
        figures[name] = sum(split[name] for split in kept)
    for language in sorted({name for split in kept for name in split["languages"]}):
        figures[f"kept.{language}"] = sum(split["languages"].get(language, {"documents": 0})["documents"]
                                          for split in kept)
    return figures
