"""Draw ``docs/pictures/report.png``, the upper part of a report as Chromium shows it, of two short runs.

taid-vlm train quickstart/taid training.steps=100 training.warmup_steps=5 evaluation.limit=40 --output runs/taid-100
taid-vlm train quickstart/kl training.steps=100 training.warmup_steps=5 evaluation.limit=40 --output runs/kl-100
python tools/draw_report.py runs/taid-100 runs/kl-100
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from taid_vlm.report.page import page
from taid_vlm.report.run_files import read_runs

TARGET = Path(__file__).parents[1] / "docs" / "pictures" / "report.png"
WIDTH, HEIGHT = 1280, 1270  # down to the end of the section on training
COLOURS = 64  # a page has few, and a file of few is small
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main(folders: list[Path]) -> None:
    """Write the picture."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None or not folders:
        raise SystemExit(f"expected folders of runs, and one of {', '.join(BROWSERS)} on the PATH")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        (work / "report.html").write_text(page(read_runs(folders)), encoding="utf-8")
        shot = work / "report.png"
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += [f"--user-data-dir={work / 'profile'}", "--blink-settings=preferredColorScheme=1"]
        command += [f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={shot}", (work / "report.html").as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=600)
        with Image.open(shot) as image:
            image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(TARGET, optimize=True)
    print(f"{TARGET}: {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
