"""Breaks when a reader sees what it must not, or the readers are asked for different tokens."""

from __future__ import annotations

import pytest
import torch

from headwater.model import Decoder, initialise
from headwater.studies.blanks import AXES, READERS, BlanksSettings, Reader, choose, run
from headwater.train.batches import IGNORE, lay


@pytest.fixture
def settings(small) -> BlanksSettings:
    return BlanksSettings(**small, blanks=20)


def test_all_readers_are_asked_for_the_same_tokens(settings, tmp_path):
    text = settings.text(tmp_path)
    reader = Reader(text)
    for blank in choose(text, settings):
        wanted = blank.ids[blank.start:blank.start + blank.size].tolist()
        for sample in (reader.causal(blank), reader.infilling(blank, left=False), reader.infilling(blank, left=True)):
            assert sample.targets[sample.targets != IGNORE].tolist() == wanted
            assert len(sample.tokens) <= settings.length
        assert 1 <= blank.size <= settings.longest


def test_the_text_after_a_blank_is_seen_from_both_sides_alone_and_the_blank_never(settings, tmp_path):
    text = settings.text(tmp_path)
    model, reader = initialise(Decoder(settings.shape(text)), 0).eval(), Reader(text)
    blank = max(choose(text, settings), key=lambda one: one.size)

    def hidden(sample):
        batch = lay([[sample]], settings.length, pad=0, axes=AXES)
        with torch.no_grad():
            return model.hidden(batch.tokens, batch.intervals, batch.positions)[batch.targets != IGNORE]

    after, inside = blank.ids.copy(), blank.ids.copy()
    after[blank.start + blank.size + 2] = 300
    inside[blank.start + blank.size - 1] = 300
    for read, sees_after in ((lambda one: reader.infilling(one, left=False), True),
                             (lambda one: reader.infilling(one, left=True), False), (reader.causal, False)):
        usual = hidden(read(blank))
        assert torch.equal(usual, hidden(read(blank._replace(ids=after)))) != sees_after
        assert torch.equal(usual, hidden(read(blank._replace(ids=inside))))  # its last token predicts nothing asked


def test_the_study_lets_both_models_fill_the_blanks(settings, tmp_path, capsys):
    found = run(tmp_path, settings)
    assert [one.seed for one in found] == [0, 1]
    said = capsys.readouterr().out
    assert all(words in said for words in READERS.values())
    assert "<svg" in (tmp_path / "blanks.svg").read_text()
    assert run(tmp_path, settings) == found
