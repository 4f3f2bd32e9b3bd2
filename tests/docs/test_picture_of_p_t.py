"""The interactive picture of p_t in Chromium: it loads clean, moves with its slider, and its figures are those of ``losses.taid``."""

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from taid_vlm.losses import forward_kl, taid
from taid_vlm.losses.taid import taid_target_logits
from tests.browser import dump, needs_browser, visit

PICTURE = Path(__file__).parents[2] / "docs" / "pictures" / "taid.html"
TS = (0.0, 0.1, 0.4, 0.73, 1.0)
# Moves the slider as a reader does, and writes down what the page shows then.
MOVE = """<p id="said"></p><script>
const said = [];
examples.forEach((_, k) => %s.forEach((t) => {
  chosen.selectedIndex = k;
  chosen.dispatchEvent(new Event("change"));
  slider.value = t;
  slider.dispatchEvent(new Event("input"));
  const figures = {};
  for (const cell of document.querySelectorAll("[data-name]")) (figures[cell.dataset.name] ??= []).push(Number(cell.dataset.value));
  const bars = (which) => [...document.querySelectorAll(`#bars b.${which}`)].map((bar) => bar.getBoundingClientRect().width);
  said.push({k, t, told: document.getElementById("told").textContent, figures, target: bars("target"), mixture: bars("mixture")});
}));
document.getElementById("said").textContent = JSON.stringify(said);
</script></body>"""


def content() -> dict[str, Any]:
    found = re.search(r'id="examples">(.*?)</script>', PICTURE.read_text(), re.DOTALL)
    assert found is not None
    return dict(json.loads(found[1]))


def test_it_needs_nothing_from_elsewhere() -> None:
    page = PICTURE.read_text()
    assert "default-src 'none'" in page
    assert not re.search(r"(src|href)=|https?:|fetch\(|import\(|@import", page)
    made = content()
    assert len(made["tokens"]) == 12
    assert all(len(one[side]) == 12 for one in made["examples"] for side in ("student", "teacher"))


@needs_browser
@pytest.mark.parametrize(("width", "dark", "background"), [(1200, False, 255), (390, True, 13)])
def test_it_loads_clean_on_a_desk_and_on_a_phone(tmp_path: Path, width: int, dark: bool, background: int) -> None:
    seen = visit(PICTURE.read_text(), tmp_path, width=width, dark=dark)
    assert (seen.errors, seen.unreachable, seen.wider, seen.links) == ([], 0, False, 0)
    assert seen.background.startswith(f"rgb({background}, ")


@needs_browser
def test_its_figures_are_those_of_the_loss(tmp_path: Path) -> None:
    moved = tmp_path / "moved.html"
    moved.write_text(PICTURE.read_text().replace("</body>", MOVE % json.dumps(TS)))
    said = re.search(r'<p id="said">(.*?)</p>', dump(moved))
    assert said is not None
    shown = json.loads(html.unescape(said[1]))
    examples = content()["examples"]
    assert len(shown) == len(examples) * len(TS)
    for one in shown:
        sides = (examples[one["k"]][side] for side in ("student", "teacher"))
        z_q, z_p = (torch.tensor([logits], dtype=torch.float64) for logits in sides)
        t, figures = one["t"], one["figures"]
        assert one["told"] == f"{t:.2f}"
        target = taid_target_logits(z_q, z_p, t).softmax(-1)
        q, p = z_q.softmax(-1), z_p.softmax(-1)
        mixture = (1 - t) * q + t * p
        expected = {
            "student": q[0],
            "teacher": p[0],
            "target": target[0],
            "mixture": mixture[0],
            "loss-target": taid(z_q, z_p, t),
            "loss-mixture": forward_kl(z_q, mixture.log()),
            "left-target": forward_kl(taid_target_logits(z_q, z_p, t), z_p),
            "left-mixture": forward_kl(mixture.log(), z_p),
            "entropy-target": -(target * target.log()).sum(-1),
            "entropy-mixture": -(mixture * mixture.log()).sum(-1),
        }
        assert set(figures) == set(expected)
        for name, values in expected.items():
            torch.testing.assert_close(torch.tensor(figures[name], dtype=torch.float64), values, atol=1e-6, rtol=0)
        # A bar is as long as its probability says: the widest of q and p fills the track.
        for which, probabilities in (("target", target), ("mixture", mixture)):
            bars, share = torch.tensor(one[which], dtype=torch.float64), probabilities[0] / torch.cat([q, p]).max()
            longest = share.argmax()
            torch.testing.assert_close(bars / bars[longest], share / share[longest], atol=0.02, rtol=0)
    first, last = shown[0]["target"], shown[len(TS) - 1]["target"]
    assert max(abs(a - b) for a, b in zip(first, last, strict=True)) > 100  # pixels
