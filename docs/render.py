"""Fills the marked parts of the documents here from the source, so that what they quote is what runs.

    python docs/render.py            # rewrite the documents
    python docs/render.py --check    # say which are out of date (exit code 1)

`<!-- source: headwater/model/heads.py NormHead.forward -->` is followed by that function's source, without its
docstring; `<!-- table: presets -->` by the table of models.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

from headwater import plan
from headwater.model import ModelConfig
from headwater.presets import PRESETS, preset

ROOT = Path(__file__).parents[1]
MARK = re.compile(r"<!-- (source|table): (.+?) -->\n(?:.*?\n)??<!-- end -->\n", re.DOTALL)


def quote(place: str) -> str:
    """The source of `FILE NAME[.NAME]` as a code block."""
    file, _, name = place.partition(" ")
    text = (ROOT / file).read_text(encoding="utf-8")
    node: ast.AST = ast.parse(text)
    for part in name.split("."):
        node = next(child for child in ast.iter_child_nodes(node) if _name(child) == part)
    lines = text.splitlines()
    assert isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign)
    first, last = node.lineno - 1, node.end_lineno
    skipped = range(0)
    body = getattr(node, "body", [])
    if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        skipped = range(body[0].lineno - 1, body[0].end_lineno or 0)
    kept = [line for number, line in enumerate(lines[first:last], first) if number not in skipped]
    return f"```python\n{textwrap.dedent(chr(10).join(kept)).strip()}\n```\n"


def _name(node: ast.AST) -> str | None:
    if isinstance(node, ast.Assign):
        return getattr(node.targets[0], "id", None)
    return getattr(node, "name", None) or getattr(getattr(node, "target", None), "id", None)


def table(name: str) -> str:
    """The table of all presets."""
    assert name == "presets"
    rows = [_row(known, preset(known)) for known in PRESETS]
    head = ["model", "parameters", "layers", "hidden", "heads", "FFN", "vocabulary", "length", "position", "norm",
            "biases", "head"]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows]) + "\n"


def _row(name: str, config: ModelConfig) -> list[str]:
    heads = f"{config.num_attention_heads} x {config.head_dim}"
    if config.num_key_value_heads != config.num_attention_heads:
        heads += f", {config.num_key_value_heads} kv"
    biases = [word for word, has in (("qkv", config.attention_bias), ("out", config.output_bias),
                                     ("FFN", config.mlp_bias)) if has]
    norm = f"{'RMS' if config.norm == 'rmsnorm' else 'Layer'} {config.norm_eps:g}"
    if config.norm_placement != "pre":
        norm += f", {config.norm_placement.replace('_', ' ')}"
    head = "NormHead" if config.head == "normalized" else "tied" if config.tie_word_embeddings else "plain"
    return [name, f"{plan.parameters(config):,}", str(config.num_hidden_layers), str(config.hidden_size), heads,
            f"{config.activation} {config.intermediate_size}", str(config.vocab_size),
            str(config.max_position_embeddings), _position(config), norm, ", ".join(biases) or "none", head]


def _position(config: ModelConfig) -> str:
    if config.position == "rope":
        part = "" if config.rope_dims == config.head_dim else f" of {config.rope_dims}/{config.head_dim}"
        pairs = ", interleaved" if config.rope_layout == "interleaved" else ""
        scaling = f", {config.rope_scaling.kind} {config.rope_scaling.factor:g}" if config.rope_scaling else ""
        return f"RoPE {config.rope_theta:g}{part}{pairs}{scaling}"
    return {"alibi": "ALiBi", "rope_2d": "2D RoPE", "learned_2d": "2D learned", "none": "none"}[config.position]


FILLERS: dict[str, Callable[[str], str]] = {"source": quote, "table": table}


def render(text: str) -> str:
    """The document with every marked part filled."""
    return MARK.sub(lambda found: f"<!-- {found[1]}: {found[2]} -->\n{FILLERS[found[1]](found[2])}<!-- end -->\n", text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = []
    for path in sorted(Path(__file__).parent.glob("*.md")):
        before = path.read_text(encoding="utf-8")
        after = render(before)
        if after != before:
            stale.append(path.name)
            if not check:
                path.write_text(after, encoding="utf-8")
    print(f"{'out of date' if check else 'written'}: {', '.join(stale) or 'nothing'}")
    sys.exit(1 if stale and check else 0)


if __name__ == "__main__":
    main()
