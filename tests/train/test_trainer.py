import itertools
import json
import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from headwater import hardware
from headwater.artifacts import hash_file
from headwater.errors import CheckpointError, HeadwaterError, InputError, SettingsError, StorageError
from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.checkpoint import save_model
from headwater.model.tensors import read_tensors, write_tensors
from headwater.tokenizer.shards import Loaded
from headwater.train import Trainer, TrainerSettings, disk
from headwater.train import trainer as trainer_module
from headwater.train.batches import OnPolicy, lay
from headwater.train.machine import Machine
from headwater.train.objective import next_token
from headwater.train.packing import PrefixSample, as_sample
from headwater.train.stage import PretrainSettings, model_config
from headwater.train.streams import StreamBatches
from headwater.train.validation import bits_per_byte

CONFIG = ModelConfig(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                     num_key_value_heads=2)


def shard(seed=0, documents=40, size=50):
    """Documents that count upwards: learnable at once."""
    starts = np.random.default_rng(seed).integers(0, 64, documents)
    tokens = ((starts[:, None] + np.arange(size)) % 64).astype("<u4").ravel()
    return Loaded(tokens, np.arange(documents + 1) * size, ["en"] * documents, np.full(documents, size))


def trainer(steps, **settings):
    options = {"steps": steps, "rows": 4, "sequence_length": 32, "precision": "float32", "compile": "off", "threads": 1,
               "log_every": 1, "checkpoint_seconds": 1000, **settings}
    parsed = TrainerSettings.parse(options)
    batches = StreamBatches(shard(), rows=parsed.rows, length=parsed.sequence_length, seed=0)
    return Trainer(initialise(Decoder(CONFIG), 0), next_token, batches, parsed)


def losses(folder):
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_training_learns_to_count(tmp_path):
    figures = trainer(80, optimizer={"learning_rate": 1e-2, "warmup_steps": 5}).fit(tmp_path)
    assert losses(tmp_path)[0] == pytest.approx(math.log(64), rel=0.05)
    assert figures["loss"] < 0.5


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_resuming_gives_the_losses_and_weights_of_an_unbroken_run(tmp_path, precision):
    whole = trainer(12, precision=precision)
    whole.fit(tmp_path / "whole")

    class Stopped(Exception):
        pass

    class Stopping:
        """Batches that fail once, after some checkpoints."""

        def __init__(self, inner, at):
            self.inner, self.at = inner, at
            self.batches_per_epoch = inner.batches_per_epoch

        def batch(self, step, rank=0, ranks=1):
            if step == self.at:
                raise Stopped
            return self.inner.batch(step)

    for at in (5, 9):
        part = trainer(12, precision=precision, checkpoint_seconds=1e-9)
        part.batches = Stopping(part.batches, at)
        with pytest.raises(Stopped):
            part.fit(tmp_path / "parts")
    last = trainer(12, precision=precision)
    last.fit(tmp_path / "parts")
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    for ours, theirs in zip(last.model.parameters(), whole.model.parameters()):
        assert torch.equal(ours, theirs)


class Echo(OnPolicy):
    """Batches of what the model says itself: each row goes on with its likeliest tokens."""

    batches_per_epoch = 1.0

    def __init__(self):
        self.made = []

    def begin(self, learner):
        self.learner = learner

    def batch(self, step, rank=0, ranks=1):
        whole = self.learner.whole()
        start = torch.arange(step, step + 4)[:, None] % 64
        own = self.learner.ask(lambda model: model(start)[:, -1].argmax(-1))
        assert torch.equal(own, whole(start)[:, -1].argmax(-1))  # as it is now, in either form
        self.made.append([one.clone() for one in whole.parameters()])
        rows = [[as_sample(PrefixSample([int(first), int(last)], [False, True]), 0, 1)]
                for first, last in zip(start[:, 0], own)]
        return lay(rows, 32, pad=0)


def test_batches_of_the_model_itself_are_made_after_the_step_before_them(tmp_path):
    run = trainer(20, optimizer={"learning_rate": 1e-2, "warmup_steps": 2})
    run.batches = Echo()
    begun = [one.clone() for one in run.model.parameters()]
    run.fit(tmp_path)
    made = run.batches.made
    assert len(made) == 20
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(made[0], begun))
    for former, later in itertools.pairwise(made):  # none is made ahead, of weights that a step was still to change
        assert not all(torch.equal(ours, theirs) for ours, theirs in zip(former, later))
    assert losses(tmp_path)[-1] < losses(tmp_path)[0]  # it comes to believe what it says


WORKER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_trainer import trainer
from headwater.model.checkpoint import save_model
run = trainer(150, checkpoint_seconds=0.05)
run.fit(Path({out!r}))
save_model(run.model, Path({out!r}))
"""


@pytest.mark.slow
def test_kill_9_changes_no_byte_of_the_model(tmp_path):
    whole = trainer(150)
    whole.fit(tmp_path / "whole")
    save_model(whole.model, tmp_path / "whole")
    out = tmp_path / "killed"
    code = WORKER.format(tests=os.path.dirname(__file__), out=str(out))
    kills = 0
    for _ in range(12):
        process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
        seen = set((out / "checkpoints").glob("step-*")) if out.exists() else set()
        while kills < 2 and process.poll() is None and set((out / "checkpoints").glob("step-*")) <= seen:
            time.sleep(0.01)
        if kills < 2 and process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        if process.wait() == 0:
            break
    assert kills == 2
    assert hash_file(out / "model.safetensors") == hash_file(tmp_path / "whole" / "model.safetensors")


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    trainer(2).fit(tmp_path)
    other = trainer(4)
    other.model = initialise(Decoder(CONFIG.model_copy(update={"num_hidden_layers": 1})), 0)
    with pytest.raises(CheckpointError, match="of another model"):
        other.fit(tmp_path)


class Spoiled:
    """Batches of which some have a token that makes the loss what it should not be."""

    def __init__(self, inner, spoil):
        self.inner, self.spoil, self.batches_per_epoch = inner, spoil, inner.batches_per_epoch

    def batch(self, step, rank=0, ranks=1):
        batch = self.inner.batch(step, rank, ranks)
        batch.tokens.clamp_(max=62)
        if step + 1 in self.spoil:
            batch.tokens[0, 3] = 63
        return batch


def spoiled(steps, spoil, value, **settings):
    """A run in which token 63 stands for nothing but trouble."""
    run = trainer(steps, **settings)
    run.batches = Spoiled(run.batches, spoil)
    with torch.no_grad():
        run.model.embedding.weight[63] = value
    return run


def test_a_bad_loss_stops_the_run_and_keeps_its_batch(tmp_path):
    run = spoiled(6, {4}, float("nan"))
    with pytest.raises(HeadwaterError, match="loss is nan at step 4"):
        run.fit(tmp_path)
    kept = read_tensors(tmp_path / "bad-steps" / "step-00000004-rank-0.safetensors")
    assert torch.equal(kept["tokens"], run.batches.batch(3).tokens)
    assert losses(tmp_path) == losses(tmp_path)[:3]


def test_a_skipped_step_leaves_weights_and_moments_as_they_were(tmp_path):
    """The run is that of steps 1, 2, 3, 5, 6: only the skipped step's rate is not taken."""
    flat = {"optimizer": {"schedule": "constant", "warmup_steps": 0}, "on_bad_step": "skip", "weight_decay": 0.0}
    flat["optimizer"]["weight_decay"] = flat.pop("weight_decay")
    run = spoiled(6, {4}, float("nan"), **flat)
    run.fit(tmp_path / "skipped")

    class Without(Spoiled):
        def batch(self, step, rank=0, ranks=1):
            return super().batch(step if step < 3 else step + 1, rank, ranks)

    other = spoiled(5, set(), float("nan"), **flat)
    other.batches = Without(other.batches.inner, set())
    other.fit(tmp_path / "without")
    rest = torch.arange(64) != 63
    for ours, theirs in zip(run.model.parameters(), other.model.parameters()):
        same = (ours == theirs) if ours.dim() == 1 or len(ours) != 64 else (ours == theirs)[rest]
        assert same.all()
    rows = [json.loads(line) for line in (tmp_path / "skipped/places/rank-00000.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "skipped" in row] == [4]


def test_a_run_that_skips_every_step_stops(tmp_path):
    run = spoiled(40, set(range(3, 41)), float("nan"), on_bad_step="skip")
    with pytest.raises(HeadwaterError, match="20 steps in a row were skipped, the last because the loss is nan"):
        run.fit(tmp_path)
    assert len(losses(tmp_path)) == 21


def test_a_stopped_run_goes_on_without_the_bad_batch(tmp_path):
    """What the error says to do: from the last checkpoint, not from the start."""
    with pytest.raises(HeadwaterError, match="on_bad_step=skip to go on from the last checkpoint"):
        spoiled(6, {4}, float("nan"), checkpoint_seconds=1e-9).fit(tmp_path)
    before = losses(tmp_path)[:3]
    spoiled(6, {4}, float("nan"), on_bad_step="skip").fit(tmp_path)
    assert losses(tmp_path)[:3] == before
    assert len(losses(tmp_path)) == 6


def test_a_disk_that_is_full_pauses_a_snapshot_and_a_kept_batch(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(disk, "WAIT_SECONDS", 0.0)
    fails = {"snapshot": 2, "batch": 1}

    def full(kind):
        fails[kind] -= 1
        if fails[kind] >= 0:
            raise StorageError("cannot write: No space left on device")

    def write(path, tensors):
        full("batch")
        write_tensors(path, tensors)

    def snapshot(model, folder):
        full("snapshot")
        (folder / "there").touch()

    monkeypatch.setattr(trainer_module, "write_tensors", write)
    run = spoiled(6, {4}, float("nan"), on_bad_step="skip", snapshot_tokens=4 * 32 * 3)
    run.snapshot = snapshot
    run.fit(tmp_path)
    assert len(list((tmp_path / "bad-steps").iterdir())) == 1
    assert len(list((tmp_path / "snapshots").glob("*/there"))) == 2
    said = capfd.readouterr().err
    assert said.count("paused: a snapshot could not be written") == 1
    assert "paused: a batch that went wrong could not be written" in said


def test_a_spike_is_told_from_the_noise_before_it_also_after_a_resume(tmp_path):
    def tripled(model, batch, divisor):
        outcome = next_token(model, batch, divisor)
        return outcome._replace(loss=outcome.loss * (3 if batch.tokens[0, 3] == 63 else 1))

    for folder, steps in (("whole", 80), ("parts", 65), ("parts", 80)):
        run = spoiled(steps, {70}, 0.0, spike_deviations=8.0, on_bad_step="skip", optimizer={"learning_rate": 1e-5})
        run.objective = tripled
        run.fit(tmp_path / folder)
    for folder in ("whole", "parts"):
        kept = [path.name for path in (tmp_path / folder / "bad-steps").iterdir()]
        assert kept == ["step-00000070-rank-0.safetensors"]


def test_rows_computed_in_parts_give_the_same_run(tmp_path):
    trainer(6).fit(tmp_path / "whole")
    for name, settings in {"parts": {"micro_rows": 1}, "full": {"micro_rows": 2, "recompute": "full"},
                           "selective": {"recompute": "selective"}}.items():
        trainer(6, **settings).fit(tmp_path / name)
        assert losses(tmp_path / name) == pytest.approx(losses(tmp_path / "whole"), rel=1e-6)


class Products(TorchDispatchMode):
    """Counts matrix products."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        self.count += function is torch.ops.aten.mm.default
        return function(*arguments, **(keywords or {}))


def test_what_is_computed_again_is_not_kept():
    kept, products = {}, {}
    for what in ("none", "selective", "full"):
        run = trainer(1, recompute=what)
        run.prepare(Machine("cpu", "float32", compile=False, threads=1, matmul_flops=1.0))
        sizes = {}

        def pack(tensor, sizes=sizes):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with Products() as counted, torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            run.task(run.objective, run.batches.batch(0), 1.0).loss.backward()
        kept[what], products[what] = sum(sizes.values()), counted.count
    assert max(kept["full"], kept["selective"]) < kept["none"] / 2
    assert products["none"] == products["selective"] < products["full"]


@pytest.mark.parametrize(("settings", "words"), [({"rows": 4, "micro_rows": 3}, "3 at a time")])
def test_rows_that_cannot_be_shared_are_refused(settings, words):
    with pytest.raises(InputError, match=words):
        trainer(2, **settings)


def test_the_places_read_are_those_of_the_batches(tmp_path):
    run = trainer(5)
    run.fit(tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "places" / "rank-00000.jsonl").read_text().splitlines()]
    for step, row in enumerate(rows):
        assert [place for begin, end in row["read"] for place in range(begin, end)] == (
            run.batches.batch(step).places.flatten().tolist())


def test_validation_is_taken_when_due_and_at_the_end(tmp_path):
    run = trainer(5, validate_every=2)
    run.validate = lambda model: {"probe": 1.0}
    figures = run.fit(tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "validation.probe" in row] == [2, 4, 5]
    assert figures["validation.probe"] == 1.0


@pytest.mark.parametrize("settings", [{}, {"steps": 3, "epochs": 1.0}])
def test_exactly_one_of_steps_and_epochs_is_given(settings):
    with pytest.raises(SettingsError, match="give steps or epochs"):
        TrainerSettings.parse(settings)


def test_a_part_of_a_batch_is_no_more_than_the_batch():
    with pytest.raises(SettingsError, match="micro_rows 8 is more than the batch's rows, 4"):
        TrainerSettings.parse({"steps": 1, "rows": 4, "micro_rows": 8})


@pytest.mark.parametrize(("changes", "words"), [
    ({"vocab_size": 100}, "model.vocab_size 100 is less than the tokenizer's 480"),
    ({"max_position_embeddings": 128}, "sequence_length 256 is more than the model's max_position_embeddings 128")])
def test_a_model_that_the_data_do_not_fit_is_refused(changes, words):
    fields = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, **changes}
    values = {"corpus": "a", "tokenizer": "b", "trainer": {"steps": 1}, "model": fields}
    with pytest.raises(SettingsError, match=words):
        model_config(PretrainSettings.parse(values), 480)


def test_compiling_without_a_compiler_is_refused_at_once(monkeypatch):
    monkeypatch.setattr(hardware, "has_compiler", lambda: False)
    TrainerSettings(steps=1, device="cpu").check_machine()
    with pytest.raises(InputError, match="no C\\+\\+ compiler"):
        TrainerSettings(steps=1, device="cpu", compile="on").check_machine()


def test_epochs_become_steps():
    run = trainer(None, epochs=3.0)
    assert run.steps == round(3 * (2000 // 32) / 4)


@pytest.mark.parametrize("length", [7, 64])
def test_bits_per_byte_of_a_uniform_model_is_known(length):
    model = initialise(Decoder(CONFIG), 0)
    torch.nn.init.zeros_(model.head.weight)
    found = bits_per_byte(model, shard(documents=5, size=20), length)
    assert found == {"en": pytest.approx(math.log2(64) * 19 / 20)}  # 19 predicted tokens over 20 bytes


def test_bits_per_byte_is_the_sum_over_every_predicted_token():
    model = initialise(Decoder(CONFIG), 0)
    sizes, generator = [3, 31, 12, 40], torch.Generator().manual_seed(0)
    documents = [torch.randint(64, (size,), generator=generator) for size in sizes]
    ragged = Loaded(torch.cat(documents).numpy().astype("<u4"), np.concatenate([[0], np.cumsum(sizes)]),
                   ["en", "zh", "en", "zh"], np.array([5, 50, 9, 70]))
    with torch.inference_mode():
        nats = [-model(ids[None, :-1])[0].log_softmax(-1).gather(1, ids[1:, None]).sum().item() for ids in documents]
    wanted = {"en": (nats[0] + nats[2]) / 14, "zh": (nats[1] + nats[3]) / 120}
    found = bits_per_byte(model, ragged, 64)
    assert found == {name: pytest.approx(value / math.log(2), rel=1e-5) for name, value in wanted.items()}


def test_a_preset_is_where_the_models_fields_start():
    fields = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4,
              "num_key_value_heads": 0, "head_dim": 8, "rope_dims": 8}
    values = {"corpus": "a", "tokenizer": "b", "trainer": {"steps": 1}, "preset": "Baichuan2-13B", "model": fields}
    config = model_config(PretrainSettings.parse(values), 480)
    assert (config.position, config.head, config.vocab_size, config.hidden_size) == ("alibi", "normalized", 512, 32)


@pytest.mark.parametrize(("fields", "words"), [
    ({"hiden_size": 3}, "did you mean 'hidden_size'"), ({"num_attention_heads": 3}, "not a multiple of 3 heads"),
    ({"hidden_size": 0}, "greater than 0")])
def test_an_impossible_model_is_refused_before_any_stage_works(fields, words):
    model = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, **fields}
    with pytest.raises(SettingsError, match=words):
        PretrainSettings.parse({"corpus": "a", "tokenizer": "b", "trainer": {"steps": 1}, "model": model})


def test_validation_does_not_compile_for_every_shape(tmp_path):
    run = trainer(3, compile="on")
    compiled = []

    def validate(model):
        before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        for length in range(3, 12):
            model.hidden(torch.zeros(1, length, dtype=torch.long))
        compiled.append(torch._dynamo.utils.counters["stats"]["unique_graphs"] - before)
        return {}

    run.validate = validate
    run.fit(tmp_path)
    assert compiled == [0]
