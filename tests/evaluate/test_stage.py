import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headwater.evaluate.stage import EvaluateSettings, run


def test_every_model_is_measured_in_both_languages(small_model, tmp_path):
    (tmp_path / "validation").mkdir()
    table = pa.table({"text": ["The lake is deep.", "湖很深。"], "language": ["en", "zh"]})
    pq.write_table(table, tmp_path / "validation" / "0.parquet")
    for language, split, text in [("en", "test", "How long?,1,2,3,4,A\nWhere?,1,2,3,4,B\n"),
                                  ("zh", "val", "id,question,A,B,C,D,answer\n0,多长?,1,2,3,4,C\n")]:
        for subject in ("rivers", "rivers_rephrased"):
            file = tmp_path / "bench" / language / split / f"{subject}_{split}.csv"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    settings = EvaluateSettings.parse({
        "models": {"pretrain": {"path": small_model, "style": "plain"}, "finetune": {"path": small_model}},
        "corpus": tmp_path, "samples": [["How long?", "多长?"]], "sample_tokens": 4,
        "choice": {"atlas_choice": {language: tmp_path / "bench" / language for language in ("en", "zh")}}})
    figures = run(settings, tmp_path / "out")
    assert {name.partition("/")[2] for name in figures if name.startswith("pretrain/")} == {
        f"{task}.{language}.{metric}" for language in ("en", "zh")
        for task, metric in [("text", "bits_per_byte"), ("atlas_choice", "accuracy"),
                             ("atlas_choice", "rephrased_accuracy")]}
    assert figures["pretrain/text.en.bits_per_byte"] == pytest.approx(figures["finetune/text.en.bits_per_byte"])
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    rivers = results["finetune"]["atlas_choice"]["en"]
    assert (rivers["questions"], rivers["subjects"]["rivers"]["questions"]) == (4, 2)
    [sample] = json.loads((tmp_path / "out" / "samples.json").read_text())
    assert [message["role"] for message in sample["messages"]] == ["user", "assistant"] * 2


def test_a_limit_leaves_every_subject_its_share(small_model, tmp_path):
    (tmp_path / "test").mkdir()
    for subject in ("lakes", "rivers", "towns"):
        (tmp_path / "test" / f"{subject}_test.csv").write_text("How long?,1,2,3,4,A\n" * 8, encoding="utf-8")
    settings = EvaluateSettings.parse({"models": {"base": {"path": small_model, "style": "plain"}}, "limit": 6,
                                       "choice": {"geography": {"en": tmp_path}}})
    run(settings, tmp_path / "out")
    subjects = json.loads((tmp_path / "out" / "results.json").read_text())["base"]["geography"]["en"]["subjects"]
    assert {name: scored["questions"] for name, scored in subjects.items()} == {"lakes": 2, "rivers": 2, "towns": 2}
