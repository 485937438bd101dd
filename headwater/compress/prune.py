"""The pruning stage: the blocks that change least what flows through them are taken out (ShortGPT, 2403.03853)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice, takewhile
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator
from rich.table import Table
from torch import Tensor

from headwater.artifacts import read_json, write_json, write_text
from headwater.compress.calibration import CalibrationSettings
from headwater.compress.cost import Cost, cost_table, decoding_speed, decoding_speeds
from headwater.compress.healing import Healing
from headwater.compress.influence import Influence, block_influences
from headwater.compress.orders import Order, Removal, ascending, removals
from headwater.compress.quality import BenchmarkSettings, Quality
from headwater.errors import InputError, MissingExtraError
from headwater.hardware import trim_heap
from headwater.model import Decoder
from headwater.model.adapters import adapted, require_no_prefix
from headwater.model.checkpoint import load_model, read_config, require_floats, save_model
from headwater.model.removal import remove_blocks
from headwater.model.task_head import require_no_head
from headwater.plots import Line, Panel, panels
from headwater.progress import print_result, say
from headwater.settings import InputPath, OwnDefaults, Seed, Settings
from headwater.tokenizer import Tokenizer
from headwater.train.processes import ranks
from headwater.train.settings import TrainerSettings
from headwater.train.stage import ObjectiveSettings

MEASURED, RESULT = "measured.json", "prune.json"
BEFORE, AFTER, HEALED = "before", "after", "healed"
HEALED_ALONE = "the whole model got no such training, which might have bettered it too"


class PruneSettings(Settings):
    """Which blocks are removed, how they are found, and what heals the rest. Give one of count, share and threshold."""

    model: InputPath = Path("${finetune}")
    corpus: InputPath | None = Path("${corpus}")
    """Its training split is what the blocks are measured on and what heals; of its validation split the bits per byte
    are taken. None: a file of text is given as calibration.text, and bits per byte are not taken."""
    count: Annotated[int, Field(ge=1)] | None = None
    """Blocks to remove."""
    share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the blocks to remove, rounded down."""
    threshold: Annotated[float, Field(gt=0)] | None = None
    """Blocks of less influence than this are removed."""
    order: Order = "influence"
    """influence: measured once, the lowest first. sequential: measured anew after every removal. Baselines: magnitude
    (of what a block adds, relative to what it gives), last_first, random."""
    benchmarks: BenchmarkSettings = BenchmarkSettings()
    calibration: CalibrationSettings = CalibrationSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    """How text is read and learned: as in the model's own training."""
    healing: Annotated[TrainerSettings | None, OwnDefaults({"optimizer": {"learning_rate": 5e-4}})] = None
    """A short training behind the removal, of all weights; none when not set."""
    seed: Seed = 0

    @model_validator(mode="after")
    def _goes_together(self) -> PruneSettings:
        given = [name for name in ("count", "share", "threshold") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("give one of count, share and threshold" + (f", not {', '.join(given)}" if given else ""))
        if self.threshold is not None and self.order not in ("influence", "sequential"):
            raise ValueError(f"threshold is one of influence, and has no effect with order {self.order}")
        if self.corpus is None and self.healing is not None:
            raise ValueError("healing needs a corpus")
        if self.corpus is None and self.objective != ObjectiveSettings():
            raise ValueError("objective has no effect without a corpus: nothing is learned, nor bits per byte taken")
        learned = self.objective.name == "prefix" or self.objective.max_z or self.objective.z
        if self.healing is None and learned:
            raise ValueError("without healing nothing is learned, and of objective only glm has an effect")
        return self

    def wanted(self, blocks: int) -> int:
        """How many of so many blocks, by count or share. Raises `InputError` for none, and for all."""
        count = self.count if self.count is not None else int((self.share or 0.0) * blocks)
        where = "count" if self.count is not None else "share"
        if not count:
            raise InputError(f"a share of {self.share} of {blocks} blocks is less than one", where=where,
                             fix=f"give at least {1 / blocks:.3g}")
        if count >= blocks:
            raise InputError(f"{count} blocks of {blocks} are to be removed", where=where,
                             fix="leave at least one" if blocks > 1 else "give a model of several blocks")
        return count


def check(settings: PruneSettings) -> None:
    """Raises `InputError` for what this machine does not have, or a model that is there cannot do, and without text.
    """
    settings.calibration.source(settings.corpus)
    if settings.healing is not None:
        settings.healing.check_machine()
        if ranks() > 1:
            raise InputError("one process measures the blocks, and heals what it leaves", where="prune.healing",
                             fix="start one process; it uses all cores, or its GPU")
    if not (settings.model / "config.json").is_file():
        return  # still to come
    config = read_config(settings.model)[0]
    if settings.threshold is None:
        settings.wanted(config.num_hidden_layers)
    if config.prefix_ids and settings.corpus is not None and settings.objective.name != "glm":
        raise InputError("this model reads texts both ways up to a mark", where="prune.objective.name",
                         fix="set objective.name=glm; or corpus=null and a file of text as calibration.text")


def run(settings: PruneSettings, out: Path) -> dict[str, float]:
    """Write a model folder, `prune.json` and `influence.svg`. Figures: blocks removed, and what the model says and
    costs before, after and healed."""
    require_no_prefix(settings.model, "pruned")
    require_no_head(settings.model)
    check(settings)
    if settings.healing is not None:
        require_floats(settings.model, "trained", "give the float model, or leave out healing")
    tokenizer, model = Tokenizer.load(settings.model), load_model(settings.model)
    settings.benchmarks.check(tokenizer)
    if any(adapted(model)):
        raise InputError("an adapter beside packed matrices stays beside its model", where=settings.model,
                         fix="prune the float model, and learn the adapter beside what is left")
    healing = Healing(settings, tokenizer, out) if settings.corpus is not None else None
    rows = settings.calibration.rows(settings.corpus, tokenizer, model.config, settings.seed)
    quality = Quality(tokenizer, settings.benchmarks) if healing is None else healing.quality
    found, removed, costs = _measured(settings, model, rows, quality, out)
    figures: dict[str, float] = {}
    if settings.healing is not None:
        assert healing is not None
        figures = healing.heal(model, settings.healing)
        costs[HEALED] = Cost.of(model, quality, decoding_speed(model, rows[0]))
    save_model(model, out, tokenizer_from=settings.model)
    _tell(settings, found, removed, costs, out)
    return {"removed": float(len(removed)), "blocks": float(len(model.blocks)), **figures,
            **{name: value for when, cost in costs.items() for name, value in cost.figures(when).items()}}


def _measured(settings: PruneSettings, model: Decoder, rows: Tensor, quality: Quality, out: Path
              ) -> tuple[list[Influence], list[Removal], dict[str, Cost]]:
    """The blocks' influences, those that are removed, and both costs; the model is without them then. Kept, so that a
    healing that goes on does not take them again."""
    if not (out / MEASURED).exists():
        found = block_influences(model, rows)
        removed = chosen(settings, found, model, rows)
        gone = [one.layer for one in removed]
        say(f"removing {len(gone)} of {len(found)} blocks: {', '.join(map(str, gone))}")
        whole, without = decoding_speeds(model, gone, rows[0])
        costs = {BEFORE: Cost.of(model, quality, whole)}
        remove_blocks(model, gone)
        costs[AFTER] = Cost.of(model, quality, without)
        trim_heap()  # what training takes is counted from here
        write_json(out / MEASURED, {"blocks": found, "removed": removed, "costs": costs})
    values = read_json(out / MEASURED)
    removed = [Removal(*one) for one in values["removed"]]
    if len(model.blocks) == len(values["blocks"]):
        remove_blocks(model, [one.layer for one in removed])
    return ([Influence(*one) for one in values["blocks"]], removed,
            {when: Cost(*one) for when, one in values["costs"].items()})


def chosen(settings: PruneSettings, found: Sequence[Influence], model: Decoder, rows: Tensor) -> list[Removal]:
    """Which blocks go, the first first. Raises `InputError` where no block is below the threshold, or every one."""
    order = removals(settings.order, found, model, rows, settings.seed)
    limit = settings.threshold
    if limit is None:
        return list(islice(order, settings.wanted(len(found))))
    removed = list(takewhile(lambda one: one.influence < limit, order))
    if not removed:
        raise InputError(f"no block has an influence below {limit:g}: the lowest is "
                         f"{min(one.influence for one in found):.4f}", where="threshold", fix="give a higher one")
    if len(removed) == len(found) - 1 and max(one.influence for one in found) < limit:
        raise InputError(f"all {len(found)} blocks have an influence below {limit:g}", where="threshold",
                         fix="give a lower one")
    return removed


def _tell(settings: PruneSettings, found: list[Influence], removed: list[Removal], costs: dict[str, Cost], out: Path
          ) -> None:
    gone = [one.layer for one in removed]
    print_result(influence_table(found, gone))
    print_result(cost_table({{BEFORE: f"all {len(found)} blocks", AFTER: f"without {_listed(gone)}",
                              HEALED: "and healed"}[when]: cost for when, cost in costs.items()}))
    if HEALED in costs:
        say(f"note: {HEALED_ALONE}")
    write_json(out / RESULT, {
        "order": settings.order, "removed": [one._asdict() for one in removed],
        "kept": [layer for layer in range(len(found)) if layer not in gone],
        "blocks": [{"layer": layer, **one._asdict()} for layer, one in enumerate(found)],
        "costs": {when: cost._asdict() for when, cost in costs.items()}})
    try:
        write_text(out / "influence.svg", influence_plot(found, gone))
    except MissingExtraError as error:  # what was measured stays
        say(f"note: no influence.svg: {error}")


def influence_table(found: Sequence[Influence], gone: Sequence[int]) -> Table:
    """The blocks, the lowest influence first."""
    table = Table(title="blocks by their influence", title_justify="left")
    for name in ("block", "influence", "relative magnitude", ""):
        table.add_column(name, justify="right" if name else "left")
    for layer in ascending([one.influence for one in found]):
        one = found[layer]
        table.add_row(str(layer), f"{one.influence:.4f} ± {2 * one.error:.4f}", f"{one.magnitude:.3f}",
                      f"removed, {gone.index(layer) + 1} of {len(gone)}" if layer in gone else "")
    return table


def influence_plot(found: Sequence[Influence], gone: Sequence[int]) -> str:
    """The blocks in order, those that go in another colour, as SVG. Points: an axis of logarithms has no nought from
    which bars could be as long as what they stand for. Raises `MissingExtraError`."""
    lines = [Line(name, layers, [found[layer].influence for layer in layers],
                  [2 * found[layer].error for layer in layers], joined=False)
             for name, layers in (("stays", [layer for layer in range(len(found)) if layer not in gone]),
                                  ("removed", sorted(gone)))]
    ticks = range(0, len(found), 1 + len(found) // 12)
    return panels([Panel(lines, "block", "influence, 1 - cos(x, y)", f"without block{'s' * (len(gone) > 1)} "
                         f"{_listed(gone)}", log_y=min(one.influence for one in found) > 0, ticks=ticks)])


def _listed(layers: Sequence[int]) -> str:
    return ", ".join(map(str, sorted(layers)))
