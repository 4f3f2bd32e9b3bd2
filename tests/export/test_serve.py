"""The library's own server answers a question about a picture on an exported student."""

import base64
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from taid_vlm.export import export_student
from taid_vlm.export.gate import FreshProcess
from tests.export.students import Combination, trained

pytest.importorskip("fastapi", reason="transformers serve needs transformers[serving]")
WAIT_SECONDS = 180


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, fresh: FreshProcess) -> Path:
    root = tmp_path_factory.mktemp("serve")
    loaded = trained(Combination("clip", "mlp", "llama", {"feature": -2}), root, root / "student")
    # So large that a picture changes the answer.
    with torch.no_grad():
        for parameter in loaded.student.projector.parameters():  # type: ignore[union-attr]
            parameter.mul_(50)
    return export_student(loaded, root / "export", process=fresh).folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(folder), "--device", "cpu"]
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        _wait(f"http://127.0.0.1:{port}/health", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait(url: str, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(WAIT_SECONDS):
        if process.poll() is not None:
            assert process.stderr is not None
            pytest.fail(f"the server ended: {process.stderr.read().decode()[-500:]}")
        try:
            urllib.request.urlopen(url, timeout=1)
        except OSError:
            time.sleep(1)
        else:
            return
    pytest.fail("the server did not start")


@pytest.mark.slow
def test_a_question_about_a_picture_is_answered_as_by_the_model_itself(
    server: str, folder: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    file = tmp_path / "red.png"
    Image.new("RGB", (32, 32), (220, 30, 30)).save(file)
    encoded = "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode()
    question = {"type": "text", "text": "what colour?"}
    asked = {
        "model": str(folder),
        "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": encoded}}, question]}],
        "max_tokens": 8,
        "temperature": 0,
        "stream": False,
    }
    request = urllib.request.Request(
        f"{server}/v1/chat/completions", json.dumps(asked).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=WAIT_SECONDS) as response:
        answer = json.load(response)["choices"][0]["message"]["content"]

    model = AutoModelForImageTextToText.from_pretrained(folder)
    processor = AutoProcessor.from_pretrained(folder)
    messages = [{"role": "user", "content": [{"type": "image", "path": str(file)}, question]}]
    inputs = processor.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    out = model.generate(**inputs, max_new_tokens=8, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    assert answer == processor.decode(out, skip_special_tokens=True)
    assert answer


@pytest.mark.slow
def test_the_evaluation_asks_the_server_and_the_model_itself_alike(
    server: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from taid_vlm_eval import open_model
    from taid_vlm_eval.models.protocol import Request

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    colours = [(220, 30, 30), (20, 30, 220)]
    asked = [Request("what colour?", [Image.new("RGB", (32, 32), colour)]) for colour in colours]
    served = open_model(f"openai:{folder}@{server}/v1", timeout=WAIT_SECONDS)
    said = [answer for request in asked for answer in served.generate([request], 8)]
    assert said == [answer for request in asked for answer in open_model(folder, device="cpu").generate([request], 8)]
