"""Lines of a jsonl source, and text that must not be obeyed."""

import json
from pathlib import Path
from typing import Any

HOSTILE = "<script>alert(1)</script> [bold red]x[/] \x1b[31mred\x1b[0m \u202eback\u202c & \"quoted\" 'single' Größe 日本 👩‍🚀\n\tend"


def talk(question: Any, answer: str, images: tuple[str, ...] = ()) -> dict[str, Any]:
    """One line of a jsonl source."""
    parts = [{"type": "image"} for _ in images] + [{"type": "text", "text": question}]
    messages = [{"role": "user", "content": parts}, {"role": "assistant", "content": answer}]
    return {"messages": messages, "images": list(images)}


def write_lines(file: Path, rows: list[dict[str, Any]]) -> Path:
    """A jsonl file."""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file
