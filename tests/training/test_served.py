"""A teacher on a server is the local teacher reduced to its K likeliest tokens, and every failure is told."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from transformers import AutoModelForImageTextToText

from taid_vlm.common.errors import UserError
from taid_vlm.common.json_http import Retries
from taid_vlm.data import Join, PairedBatch, make_loader
from taid_vlm.data.collate import PaddedSide
from taid_vlm.losses import LossOutput, TopK
from taid_vlm.recipe import Recipe
from taid_vlm.training import loop, train
from taid_vlm.training.served import ServedTeacher
from taid_vlm.training.served.client import KEY_VARIABLE, Client
from taid_vlm.training.served.rows import rows_of
from taid_vlm.training.served.teacher import prompts_of
from taid_vlm.training.setup import Setup, prepare
from taid_vlm.training.step import DistillationStep, TeacherRows, loss_of, teacher_rows
from tests.tiny.language_model import save_chatty_llama, save_tiny_llama
from tests.tiny.native import save_native, save_native_tokenizer_llama
from tests.tiny.recipes import logged_steps
from tests.training.served_stand_in import StandIn, serving

VOCABULARY = 264
CPU = torch.device("cpu")
TRAINING = {"steps": 3, "batch_size": 4, "lr": 5e-3, "precision": "fp32", "trackers": [], "checkpoint_every": 1}


@pytest.fixture(scope="module")
def teacher_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its answers depend on all that came before."""
    return save_chatty_llama(tmp_path_factory.mktemp("served") / "llama")


@pytest.fixture
def server(teacher_folder: Path) -> Iterator[StandIn]:
    with serving(StandIn(teacher_folder)) as stand_in:
        yield stand_in


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Conversations of one and of two turns, of different lengths."""
    folder = tmp_path_factory.mktemp("words")
    lines = []
    for index in range(12):
        messages = [{"role": "user", "content": f"what is {index}?" + " and so on" * (index % 3)}]
        messages.append({"role": "assistant", "content": f"it is {index}"})
        if index % 2:
            messages += [{"role": "user", "content": "really?"}, {"role": "assistant", "content": "yes" * index}]
        lines.append(json.dumps({"messages": messages}))
    (folder / "train.jsonl").write_text("\n".join(lines) + "\n")
    return folder / "train.jsonl"


@pytest.fixture
def recipes(language_model: Path, teacher_folder: Path, words: Path) -> Any:
    """Recipes by the teacher's further keys; other keyword arguments replace top-level keys."""

    def make(teacher: dict[str, Any], **changes: Any) -> Recipe:
        content = {
            "student": {
                "language_model": {"source": str(language_model), "layers": 2},
                "train": {"language_model": {"mode": "full", "lr": 1e-2}},
            },
            "teacher": {"language_model": {"source": str(teacher_folder)}, **teacher},
            "data": {"train": [{"kind": "jsonl", "path": str(words)}]},
            "loss": {"name": "taid", "schedule": "constant", "t_start": 0.5},
            "training": TRAINING,
        }
        return Recipe.model_validate({**content, **changes})

    return make


def of(server: StandIn, top_k: int = 8, tail: str = "uniform", **more: Any) -> dict[str, Any]:
    return {"placement": "served", "url": server.url, "top_k": top_k, "tail": tail, **more}


def ready(recipe: Recipe) -> tuple[Setup, PairedBatch]:
    setup = prepare(recipe, Accelerator(cpu=True), None, "fp32", lambda _: None)
    join = Join(setup.processor.tokenizer.eos_token_id, setup.packing)
    return setup, next(iter(make_loader(setup.train, [[0, 1, 2, 3, 4]], join)))


def module_of(setup: Setup, recipe: Recipe) -> DistillationStep:
    return DistillationStep(setup.student, setup.spec, setup.vocabulary, recipe.loss)


def slopes(setup: Setup, output: LossOutput) -> list[torch.Tensor]:
    learning = [p for p in setup.student.parameters() if p.requires_grad]
    return [g for g in torch.autograd.grad(output.loss, learning, allow_unused=True) if g is not None]


def local_logits(setup: Setup, batch: PairedBatch) -> torch.Tensor:
    known = teacher_rows(setup, batch, CPU)
    assert isinstance(known, TeacherRows)
    return known.scaling.scale * (known.hidden @ known.head.T)


def answer_of(ids: list[int], k: int = 2) -> dict[str, Any]:
    """Entry i knows token i with log-probability -i, and k - 1 others that are less likely."""
    entries: list[Any] = [None]
    for place in range(1, len(ids)):
        others = {str(900 + n): {"logprob": -place - 10.0 * n, "rank": n + 1} for n in range(1, k)}
        entries.append({**others, str(ids[place]): {"logprob": -float(place), "rank": 1}})
    return {"choices": [{"prompt_logprobs": entries}]}


def test_row_r_takes_the_distribution_of_token_r_plus_1() -> None:
    ids = [7, 11, 13, 17, 19]
    known = rows_of(answer_of(ids), ids, [0, 2, 3], 2)
    assert known == [([11, 901], [-1.0, -11.0]), ([17, 901], [-3.0, -13.0]), ([19, 901], [-4.0, -14.0])]


def test_the_prompts_own_token_beyond_k_is_left_out() -> None:
    answer = answer_of([7, 11], 3)
    answer["choices"][0]["prompt_logprobs"][1]["11"]["logprob"] = -99.0
    assert rows_of(answer, [7, 11], [0], 2) == [([901, 902], [-11.0, -21.0])]


@pytest.mark.parametrize("k", [1, 5, VOCABULARY])
def test_rows_of_a_padded_batch_are_those_of_the_model(server: StandIn, k: int) -> None:
    """Against the model's own logits: the output at position r is about token r + 1."""
    generator = torch.Generator().manual_seed(0)
    input_ids = torch.randint(4, 250, (3, 9), generator=generator)
    mask = torch.tensor([[1] * 9, [1] * 5 + [0] * 4, [1] * 7 + [0] * 2])
    rows = torch.tensor([3, 4, 7, 9 + 0, 9 + 3, 18 + 5])
    batch = PairedBatch([], torch.zeros(6), None, PaddedSide(input_ids, mask, rows), [], [], [])  # type: ignore[arg-type]
    topk = ServedTeacher(Client(server.url), "tiny", k, "none").rows(batch, CPU)
    for index, row in enumerate(rows.tolist()):
        sequence, place = divmod(row, 9)
        logits = server.model(input_ids[sequence : sequence + 1, : place + 1]).logits[0, -1]
        expected = logits.detach().log_softmax(-1).topk(k)
        assert set(topk.ids[index].tolist()) == set(expected.indices.tolist())
        torch.testing.assert_close(topk.log_probs[index], expected.values, rtol=1e-5, atol=1e-5)
    # Nothing is sent of the padding, or of what comes after the last answer.
    assert sorted(len(body["prompt"]) for body in server.asked) == [5, 7, 9]
    assert all(body["max_tokens"] == 1 and body["temperature"] == 0 for body in server.asked)


def test_sequences_without_rows_are_not_asked_for() -> None:
    side = PaddedSide(torch.arange(12).reshape(3, 4), torch.ones(3, 4), torch.tensor([0, 9]))
    assert prompts_of(side) == [([0, 1], [0]), ([8, 9, 10], [1])]
    packed = PaddedSide(side.input_ids, side.attention_mask, side.rows, position_ids=side.input_ids)
    with pytest.raises(UserError, match="packed on the teacher's side"):
        prompts_of(packed)


@pytest.mark.parametrize(("tail", "name"), [("uniform", "taid"), ("uniform", "rkl"), ("none", "taid"), ("none", "jsd")])
def test_the_loss_is_that_of_the_local_teacher_reduced_to_k_tokens(
    server: StandIn, recipes: Any, tail: str, name: str
) -> None:
    recipe = recipes(of(server, 6, tail), loss={"name": name})
    setup, batch = ready(recipe)
    local, same = ready(recipes({}, loss={"name": name}))
    assert same.ids == batch.ids
    expected = TopK.of(local_logits(local, batch), 6, tail)
    found = teacher_rows(setup, batch, CPU)
    assert isinstance(found, TopK)
    torch.testing.assert_close(found.log_probs, expected.log_probs, rtol=1e-5, atol=1e-5)
    assert torch.equal(found.ids, expected.ids)
    module = module_of(setup, recipe)
    served = loss_of(setup, module, batch, CPU, 0.5)
    setup.served = type("Reduced", (), {"rows": lambda *_: expected})()  # type: ignore[assignment]
    reduced = loss_of(setup, module, batch, CPU, 0.5)
    torch.testing.assert_close(served.loss, reduced.loss, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(slopes(setup, served), slopes(setup, reduced), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("tail", ["uniform", "none"])
def test_with_all_tokens_it_is_the_dense_teacher(server: StandIn, recipes: Any, tail: str) -> None:
    recipe = recipes(of(server, VOCABULARY, tail))
    (setup, batch), (local, _) = ready(recipe), ready(recipes({}))
    served = loss_of(setup, module_of(setup, recipe), batch, CPU, 0.5)
    dense = loss_of(local, module_of(local, recipe), batch, CPU, 0.5)
    assert served.sums.keys() == dense.sums.keys()
    torch.testing.assert_close(served.loss, dense.loss, rtol=1e-5, atol=1e-5)
    for name, value in dense.sums.items():
        torch.testing.assert_close(served.sums[name], value, rtol=1e-5, atol=1e-4)
    for ours, theirs in zip(slopes(setup, served), slopes(local, dense), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_packed_rows_of_the_student_meet_the_same_teacher(server: StandIn, recipes: Any) -> None:
    sums = []
    for batching in ("padded", "packed"):
        data = recipes({}).model_dump()["data"] | {"batching": batching, "max_length": 256}
        recipe = recipes(of(server), data=data)
        setup, batch = ready(recipe)
        sums.append(loss_of(setup, module_of(setup, recipe), batch, CPU, 0.5).loss)
    torch.testing.assert_close(*sums, rtol=1e-4, atol=1e-4)


def test_training_with_all_tokens_logs_what_the_local_teacher_logs(
    server: StandIn, recipes: Any, tmp_path: Path
) -> None:
    data = recipes({}).model_dump()["data"]
    data["validation"] = [{**data["train"][0], "limit": 3}]
    train(recipes(of(server, VOCABULARY, served_model="tiny"), data=data), tmp_path / "served")
    train(recipes({}, data=data), tmp_path / "local")
    steps = [logged_steps(tmp_path / name) for name in ("served", "local")]
    assert len(steps[0]) == 3
    for ours, theirs in zip(*steps, strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            assert ours[name] == pytest.approx(value, rel=1e-3, abs=1e-4), name
    assert server.most_together > 1  # a batch is asked for at once


def test_an_interrupted_run_ends_in_the_same_bits(
    server: StandIn, recipes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipes(of(server))
    train(recipe, tmp_path / "whole")
    step = loop._Run._step

    def dies_at_2(self: Any, batches: Any) -> None:
        if self.progress.step == 2:
            raise KeyboardInterrupt
        step(self, batches)

    with monkeypatch.context() as patch:
        patch.setattr(loop._Run, "_step", dies_at_2)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, tmp_path / "cut")
    train(recipe, tmp_path / "cut")
    weights = [(tmp_path / name / "student" / "model.safetensors").read_bytes() for name in ("cut", "whole")]
    assert weights[0] == weights[1]


# Failures.


def client(url: str) -> Client:
    return Client(url, timeout=0.3, retries=Retries(attempts=4, silent=2, pause=0.01))


def ask(server: StandIn, k: int = 3) -> ServedTeacher:
    return ServedTeacher(client(server.url), "tiny", k, "uniform")


@pytest.mark.parametrize("fault", [500, 503, 429, "hangs up", "stops in the middle"])
def test_what_may_pass_is_tried_again(server: StandIn, fault: int | str) -> None:
    server.faults = [fault, fault]
    teacher = ask(server)
    assert teacher.known(teacher.completion([5, 6, 7]), [5, 6, 7], [1])[0][0]
    assert server.seen == 3
    server.faults = [fault] * 10
    with pytest.raises(UserError, match=r"gave no answer to /v1/completions after 4 attempts \(.*see whether it runs"):
        teacher.completion([5, 6, 7])
    assert server.seen == 7


def test_a_server_that_says_nothing_is_asked_once_more(server: StandIn) -> None:
    server.faults = ["is slow"]
    teacher = ask(server)
    assert teacher.known(teacher.completion([5, 6, 7]), [5, 6, 7], [1])[0][0]
    assert server.seen == 2
    server.faults = ["is slow"] * 10
    with pytest.raises(UserError, match=r"gave no answer to /v1/completions after 2 attempts \(.*timed out"):
        teacher.completion([5, 6, 7])
    assert server.seen == 4


def test_the_key_does_not_go_where_a_server_sends_us(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "open-sesame")

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(307)
            self.send_header("Location", f"{server.url}/v1/models")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Elsewhere) as other:
        Thread(target=other.serve_forever, daemon=True).start()
        with pytest.raises(UserError, match=f"sends us on to {server.url}/v1/models: set teacher.url"):
            client(f"http://127.0.0.1:{other.server_port}").get("/v1/models")
        other.shutdown()
    assert server.seen == 0


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (400, "HTTP 400: .*on purpose.*--max-logprobs"),
        (401, KEY_VARIABLE),
        (404, "teacher.served_model"),
        ("is no JSON", r"not JSON but '<html>Welcome to nginx</html>'\); teacher\.url"),
    ],
)
def test_what_will_not_pass_is_told_at_once(server: StandIn, fault: int | str, told: str) -> None:
    server.faults = [fault]
    with pytest.raises(UserError, match=told):
        ask(server).completion([5, 6, 7])
    assert server.seen == 1


def test_a_failure_amid_a_batch_ends_it(server: StandIn, recipes: Any) -> None:
    setup, batch = ready(recipes(of(server)))
    assert setup.served is not None
    before = server.seen
    server.faults = ["is no JSON"] + [400] * 20
    with pytest.raises(UserError, match=r"not JSON|HTTP 400"):
        teacher_rows(setup, batch, CPU)
    assert server.seen - before <= len(batch.ids)


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(UserError, match=r"http://127\.0\.0\.1:9, gave no answer.*refused.*teacher\.url"):
        client("http://127.0.0.1:9/v1/").post("/v1/completions", {})


def test_the_key_is_sent(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "open-sesame")
    ask(server).completion([5, 6, 7])
    assert server.headers["Authorization"] == "Bearer open-sesame"


def entries(answer: Any) -> list[Any]:
    return answer["choices"][0]["prompt_logprobs"]


CHANGES = {
    "adds a token": (lambda a: entries(a).insert(1, entries(a)[1]), "log-probabilities of 4 tokens, 3 were sent"),
    "cuts a token": (lambda a: entries(a).pop(), "log-probabilities of 2 tokens, 3 were sent"),
    "other ids": (lambda a: a["choices"][0].update(prompt_token_ids=[5, 6, 8]), "other token ids than were sent"),
    "about others": (lambda a: entries(a)[2].pop("7"), "entry 2 without token 7, which was sent there"),
    "fewer": (
        lambda a: entries(a)[2].popitem(),
        r"returned 2 tokens.*top_k asks for 3: start it with --max-logprobs 3",
    ),
    "none": (lambda a: a["choices"][0].update(prompt_logprobs=None), "None for choices"),
    "no field": (lambda a: a["choices"][0].pop("prompt_logprobs"), r"no choices\[0\]\.prompt_logprobs"),
    "no choice": (lambda a: a["choices"].clear(), r"no choices\[0\]\.prompt_logprobs"),
    "no numbers": (lambda a: entries(a)[2]["7"].update(logprob=None), "not token ids with a logprob"),
    "no ids": (lambda a: entries(a)[2].update({"x": {"logprob": 0}}), "not token ids with a logprob"),
    "not a number": (lambda a: entries(a)[2]["7"].update(logprob=float("nan")), "token 7 that is no log-probability"),
    "a logit": (lambda a: entries(a)[2]["7"].update(logprob=3.5), "token 7 that is no log-probability"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_an_answer_that_is_not_vllms_is_told(server: StandIn, name: str) -> None:
    change, told = CHANGES[name]

    def changed(answer: Any) -> Any:
        if name == "fewer":  # down to the prompt's own token and one more
            entry = entries(answer)[2]
            for token in [token for token in entry if token != "7"][1:]:
                entry.pop(token)
        else:
            change(answer)
        return answer

    server.change = changed
    teacher = ask(server)
    answer = teacher.completion([5, 6, 7])
    with pytest.raises(UserError, match=told):
        teacher.known(answer, [5, 6, 7], [0, 1])
    with pytest.raises(UserError, match="returned"):
        rows_of([], [5, 6], [0], 1)


@pytest.mark.parametrize(
    ("teacher", "told"),
    [
        ({"served_model": "tony"}, r"does not serve 'tony'.*did you mean 'tiny'"),
        ({"top_k": 265}, "top_k is 265, expected at most 264"),
        ({"url": "http://127.0.0.1:9"}, "gave no answer to /v1/models"),
        ({"cache": {"enabled": True}}, "teacher.cache keeps hidden states"),
    ],
)
def test_a_recipe_that_cannot_work_is_told_before_training(
    server: StandIn, recipes: Any, teacher: dict[str, Any], told: str
) -> None:
    with pytest.raises(UserError, match=told):
        ready(recipes(of(server) | teacher))


def test_the_server_is_tried_before_training(server: StandIn, recipes: Any, tmp_path: Path) -> None:
    server.max_logprobs = 20
    with pytest.raises(
        UserError, match=r"prompt logprobs of 30, which is greater than max allowed: 20.*--max-logprobs"
    ):
        ready(recipes(of(server, 30)))
    with pytest.raises(UserError, match="'rkl' cannot have a top-k teacher with tail rule 'none'"):
        ready(recipes(of(server, tail="none"), loss={"name": "rkl"}))
    data = recipes({}).model_dump()["data"] | {"answers": "teacher"}
    with pytest.raises(UserError, match="needs the teacher's weights here"):
        ready(recipes(of(server), data=data, loss={"name": "kl"}))
    server.names = ["tiny", "other"]
    with pytest.raises(UserError, match=r"serves tiny, other: set teacher\.served_model"):
        ready(recipes(of(server)))
    ready(recipes(of(server, served_model="tiny")))
    tokenizer, server.words = server.tokenizer, {}
    server.tokenizer = type("Other", (), {"decode": lambda _, ids: tokenizer.decode([ids[0] + 1])})()
    with pytest.raises(UserError, match=r"of the served model 'tiny' is .*they must be those of the model"):
        ready(recipes(of(server, served_model="tiny")))


def test_pictures_are_refused(server: StandIn, recipes: Any, easy_vqa: Path, teacher: Path) -> None:
    base = recipes(of(server)).model_dump()
    vision = {
        "vision_encoder": {"library": "timm", "name": "test_resnet", "weights": "random", "image_size": 64},
        "projector": {"name": "mlp"},
        "image_token": "<empty_output>",
    }
    base["student"] |= vision
    base["teacher"] |= {"checkpoint": str(teacher), "language_model": None}
    base["data"] = {"train": [{"kind": "easy_vqa", "path": str(easy_vqa)}]}
    with pytest.raises(UserError, match=r"served is for text.*teacher\.placement: offload"):
        ready(Recipe.model_validate(base))


@pytest.mark.parametrize(
    ("teacher", "told"),
    [
        ({"placement": "served"}, "placement: served needs url, top_k, tail"),
        ({"url": "http://x:1"}, "url of a teacher are for placement: served"),
        ({"placement": "served", "url": "x:1", "top_k": 3, "tail": "none"}, "expected http://HOST:PORT"),
        ({"placement": "served", "url": "http://x:1", "top_k": 3, "tail": "even"}, "'uniform' or 'none'"),
    ],
)
def test_keys_that_do_not_go_together(recipes: Any, teacher: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        recipes(teacher)


def test_no_rows_at_all(server: StandIn, recipes: Any) -> None:
    """Every sample of a batch was dropped."""
    recipe = recipes(of(server))
    setup, _ = ready(recipe)
    output = loss_of(setup, module_of(setup, recipe), Join(0)([]), CPU, 0.5)
    assert output.rows == 0
    assert output.loss == 0


def test_a_teacher_with_a_head_larger_than_the_students(
    server: StandIn, recipes: Any, tmp_path: Path, language_model: Path
) -> None:
    """Tokens that the student does not have are dropped."""
    small = save_tiny_llama(tmp_path / "small", vocabulary=261)
    student = recipes({}).model_dump()["student"]
    student["language_model"]["source"] = str(small)
    recipe = recipes(of(server, VOCABULARY), student=student)
    (setup, batch), (local, _) = ready(recipe), ready(recipes({}, student=student))
    assert setup.vocabulary == local.vocabulary
    served = loss_of(setup, module_of(setup, recipe), batch, CPU, 0.5)
    dense = loss_of(local, module_of(local, recipe), batch, CPU, 0.5)
    torch.testing.assert_close(served.loss, dense.loss, rtol=1e-5, atol=1e-5)


def test_a_vision_language_model_teaches_text(recipes: Any, tmp_path: Path) -> None:
    """Token ids are all that a server takes, and all that a conversation without pictures needs."""
    save_native(tmp_path / "vlm", "internvl")
    save_native_tokenizer_llama(tmp_path / "student", "internvl")
    student = recipes({}).model_dump()["student"]
    student["language_model"] |= {"source": str(tmp_path / "student"), "layers": None}
    own = {"language_model": None, "checkpoint": str(tmp_path / "vlm")}
    training = {**TRAINING, "attention": "eager"}
    with serving(StandIn(tmp_path / "vlm", max_logprobs=1000, kind=AutoModelForImageTextToText)) as server:
        local, batch = ready(recipes(own, student=student, training=training))
        vocabulary = server.model.get_output_embeddings().weight.shape[0]
        recipe = recipes({**of(server, vocabulary), **own}, student=student, training=training)
        setup, _ = ready(recipe)
        assert all(p.is_meta for p in setup.teacher.model.parameters())  # type: ignore[union-attr]
        served = loss_of(setup, module_of(setup, recipe), batch, CPU, 0.5)
        dense = loss_of(local, module_of(local, recipe), batch, CPU, 0.5)
        torch.testing.assert_close(served.loss, dense.loss, rtol=1e-4, atol=1e-4)
