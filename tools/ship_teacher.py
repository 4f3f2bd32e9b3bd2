"""Put a trained quickstart teacher into the recipes, with what it was measured to answer on its card.

    taid-vlm quickstart --train-teacher
    python tools/ship_teacher.py RUN      # RUN: the run's folder, named by the first command

Evaluates the teacher on every question of the easy-VQA test split (ten minutes on two cores; killed, it goes on).
"""

import argparse
import json
import shutil
from pathlib import Path

from taid_vlm.common.files import new_folder
from taid_vlm.recipe import dump_recipe, load_recipe
from taid_vlm.training.card import model_card
from taid_vlm_eval import open_model
from taid_vlm_eval.runner import evaluate

RECIPE = "quickstart/teacher"
TARGET = Path(__file__).parent.parent / "recipes" / "quickstart" / "teacher"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    run = parser.parse_args().run
    recipe = load_recipe(RECIPE)
    about = json.loads((run / "run.json").read_text())
    if about["recipe"] != dump_recipe(recipe):
        raise SystemExit(f"error: {run} was not made by the recipe {RECIPE} as it stands now; train it again")
    student = run / "student"
    result = evaluate(open_model(student), ["easy_vqa"], output_dir=run / "evaluation")[0]
    seconds = sum(json.loads(line)["seconds"] for line in (run / "timing.jsonl").read_text().splitlines())
    measured = [
        f"{result.n} questions of the easy-VQA test split: accuracy {result.value:.4f} "
        f"(95 % interval {result.low:.4f} to {result.high:.4f}); the most frequent answer alone: {result.majority:.4f}",
        f"training steps took {seconds / 60:.0f} minutes on {about['device']}, precision {about['precision']}",
        f"sha256 of model.safetensors: {result.model['weights_sha256']}",
    ]
    card = model_card(recipe, "Teacher of the quickstart", measured, about["versions"])
    with new_folder(TARGET) as folder:
        for name in ("model.safetensors", "student.json"):
            shutil.copyfile(student / name, folder / name)
        (folder / "README.md").write_text(card)
    print(f"{TARGET}: accuracy {result.value:.4f}")


if __name__ == "__main__":
    main()
