"""What ``--help`` shows first: lines that a user can type, by the command's words."""

EXAMPLES: dict[str, tuple[str, ...]] = {
    "": (
        "taid-vlm quickstart                     # real models and data from the package index, 3 students compared",
        "taid-vlm new recipe.yaml                # five questions, and a commented recipe of your own",
        "taid-vlm train recipe.yaml              # interrupted, the same command goes on",
        "taid-vlm COMMAND --help                 # examples of each command",
    ),
    "train": (
        "taid-vlm train quickstart/taid",
        "taid-vlm train recipe.yaml training.steps=100 loss.name=kl --output runs/kl",
        "taid-vlm train recipe.yaml --quiet      # prints the student's folder alone",
    ),
    "launch": (
        "taid-vlm launch recipe.yaml             # a process for each GPU",
        "taid-vlm launch recipe.yaml --gpus 4 --strategy fsdp2",
        "taid-vlm launch recipe.yaml --nodes 2 --main host1:29500   # on each of two machines",
        "taid-vlm launch --config zero3          # the file for accelerate launch",
    ),
    "plan": (
        "taid-vlm plan quickstart/taid",
        "taid-vlm plan recipe.yaml --gpus 8 --compare",
        "taid-vlm plan recipe.yaml training.batch_size=64 --json",
    ),
    "cache": (
        "taid-vlm cache recipe.yaml              # the teacher runs once; training reads what it said",
        "taid-vlm cache recipe.yaml --measure    # what each form of it costs and loses",
    ),
    "answers": (
        "taid-vlm answers recipe.yaml --output answers/mine     # Parquet files and a card, to learn from and to share",
        "taid-vlm answers quickstart/language data.answer_tokens=64",
    ),
    "preview": (
        "taid-vlm preview quickstart/taid",
        "taid-vlm preview recipe.yaml --samples 10 --seed 1 --html preview.html",
        "taid-vlm preview recipe.yaml --split validation --scan --json",
    ),
    "eval": (
        "taid-vlm eval runs/taid/student --tasks easy_vqa",
        "taid-vlm eval HuggingFaceTB/SmolVLM2-2.2B-Instruct --tasks mmmu,chartqa --limit 100",
        "taid-vlm eval runs/taid/export --suite vqa --json --quiet",
    ),
    "compare": (
        "taid-vlm compare evaluation/runs--a evaluation/runs--b",
        "taid-vlm compare evaluation/runs--a evaluation/runs--b --tasks easy_vqa --html compare.html",
    ),
    "chat": (
        'taid-vlm chat runs/taid/student --image picture.png --prompt "what color is the shape?"',
        "taid-vlm chat runs/language/student     # questions line by line",
    ),
    "runs": ("taid-vlm runs", "taid-vlm runs experiments --json"),
    "report": (
        "taid-vlm report runs/taid",
        "taid-vlm report runs/taid runs/kl --html compared.html",
        "taid-vlm report runs/taid --ask 6",
    ),
    "export": (
        "taid-vlm export runs/taid               # writes runs/taid/export",
        "taid-vlm export runs/taid/student exported --to smolvlm --gguf",
        "taid-vlm export runs/taid --push me/my-student --private",
    ),
    "quickstart": (
        "taid-vlm quickstart",
        "taid-vlm quickstart training.steps=50 --output runs/short",
        "taid-vlm quickstart --train-teacher",
    ),
    "recipes": ("taid-vlm recipes ls", "taid-vlm recipes cp quickstart/taid mine.yaml"),
    "recipes ls": ("taid-vlm recipes ls", "taid-vlm recipes ls --json"),
    "recipes show": (
        "taid-vlm recipes show quickstart/taid",
        "taid-vlm recipes show quickstart/taid training.steps=100",
    ),
    "recipes schema": ("taid-vlm recipes schema > recipe.schema.json",),
    "recipes cp": ("taid-vlm recipes cp quickstart/taid mine.yaml",),
    "doctor": ("taid-vlm doctor", "taid-vlm doctor --offline --json"),
    "new": (
        "taid-vlm new recipe.yaml                # asks",
        "taid-vlm new recipe.yaml --teacher Qwen/Qwen3-VL-8B-Instruct --student Qwen/Qwen3-0.6B --data train.jsonl --gpus 1",
        "taid-vlm new text.yaml --text --teacher Qwen/Qwen3-8B --student Qwen/Qwen3-0.6B --data ./notes.txt --gpus 0",
    ),
    "study": ("taid-vlm study --jobs 2", "taid-vlm study status"),
    "study prepare": ("taid-vlm study prepare",),
    "study run": ("taid-vlm study run --seeds 1 --methods taid,kl",),
    "study status": ("taid-vlm study status",),
    "study report": ("taid-vlm study report --out runs/study",),
    "analyze": (
        "taid-vlm analyze regression                        # why self-distillation collapses and TAID does not",
        "taid-vlm analyze schedule --loss-curve runs/taid   # t as it was, and as it would have been",
    ),
    "analyze regression": (
        "taid-vlm analyze regression",
        "taid-vlm analyze regression --t-start 0 --rounds 40 --kernel gaussian --output regression.html",
    ),
    "analyze mass": (
        "taid-vlm analyze mass runs/taid runs/kl --samples 32",
        "taid-vlm analyze mass runs/taid/student --recipe quickstart/taid --output mass.svg",
    ),
    "analyze schedule": (
        "taid-vlm analyze schedule",
        "taid-vlm analyze schedule --alpha 5e-4,5e-3 --t-start 0.2,0.4 --steps 4000,20000 --noise 0.3",
        "taid-vlm analyze schedule --loss-curve runs/taid --output schedule.html",
    ),
    "analyze variance": ("taid-vlm analyze variance runs/kl runs/taid --skip 20 --output variance.html",),
    "analyze gap": (
        "taid-vlm analyze gap                               # of the study's records",
        "taid-vlm analyze gap runs/small-teacher runs/large-teacher --figure easy_vqa",
    ),
    "convert": ("taid-vlm convert internvl2 InternVL2-2B InternVL2-2B-stock",),
    "convert internvl2": ("taid-vlm convert internvl2 InternVL2-2B InternVL2-2B-stock",),
    "convert student": ("taid-vlm convert student InternVL2-2B parts",),
    "bridge": ("taid-vlm bridge lm-eval runs/language/student --tasks lambada_openai",),
    "bridge lm-eval": (
        "taid-vlm bridge lm-eval runs/language/student --tasks lambada_openai --limit 100",
        "taid-vlm bridge lm-eval Qwen/Qwen3-0.6B --tasks arc_easy,hellaswag --output results",
    ),
    "bridge vlmevalkit": ("taid-vlm bridge vlmevalkit evaluation/runs--taid --task mmmu --out predictions",),
}

# The groups of the first page, in its order. What is in none comes last.
PANELS: dict[str, tuple[str, ...]] = {
    "Start": ("quickstart", "new", "recipes", "doctor"),
    "Before a run": ("plan", "preview", "cache", "answers"),
    "Train": ("train", "launch", "runs", "report"),
    "Measure": ("eval", "compare", "chat", "bridge", "study", "analyze"),
    "Hand on": ("export", "convert"),
}

# Commands that keep what they have done, and go on from it.
GO_ON = ("train", "launch", "quickstart", "cache", "answers", "eval", "report", "study", "study run", "bridge lm-eval")
