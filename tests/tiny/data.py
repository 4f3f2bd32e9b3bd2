"""Pictures of one colour and a question about it."""

import json
from pathlib import Path

from PIL import Image

COLOURS = {"red": (220, 30, 30), "blue": (30, 30, 220)}


def write_easy_vqa(root: Path, train: int = 24, test: int = 8) -> Path:
    """The layout of the easy-vqa package."""
    for split, count in (("train", train), ("test", test)):
        folder = root / "easy_vqa" / "data" / split
        (folder / "images").mkdir(parents=True)
        questions = []
        for index in range(count):
            name = list(COLOURS)[index % 2]
            Image.new("RGB", (16, 16), COLOURS[name]).save(folder / "images" / f"{index}.png")
            questions.append(["what color?", name, index])
        (folder / "questions.json").write_text(json.dumps(questions))
    (root / "easy_vqa" / "data" / "answers.txt").write_text("red\nblue\n")
    return root


def write_chatterbot(root: Path) -> Path:
    """The layout of the chatterbot-corpus package."""
    folder = root / "chatterbot_corpus" / "data" / "english"
    folder.mkdir(parents=True)
    lines = ["categories:", "- test", "conversations:"]
    for index in range(40):
        lines += [f"- - Question {index}?", f"  - Answer {index}."]
    (folder / "small.yml").write_text("\n".join(lines) + "\n")
    return root
