"""A few made-up records for each shipped benchmark, in the files and columns in which its data really comes."""

import io
from typing import Any

from PIL import Image

Rows = list[dict[str, Any]]
HUB = "lmms-lab-encoder"
COLOURS = ["red", "blue", "green", "black"]
BLINK = [
    "Art_Style",
    "Counting",
    "Forensic_Detection",
    "Functional_Correspondence",
    "IQ_Test",
    "Jigsaw",
    "Multi-view_Reasoning",
    "Object_Localization",
    "Relative_Depth",
    "Relative_Reflectance",
    "Semantic_Correspondence",
    "Spatial_Relation",
    "Visual_Correspondence",
    "Visual_Similarity",
]


def png(index: int) -> bytes:
    """A picture of its own size and colour."""
    stream = io.BytesIO()
    Image.new("RGB", (8 + index, 6), (40 * index % 256, 90, 30)).save(stream, "PNG")
    return stream.getvalue()


def picture(index: int) -> dict[str, Any]:
    """A picture as the hub's tables hold it."""
    return {"bytes": png(index), "path": f"{index}.png"}


def three(**columns: Any) -> Rows:
    """Three records about three pictures, asked "What is it, 0?" and so on; a column is a function of the number, or one cell."""
    rows = []
    for n in range(3):
        row = {"image": picture(n), "question": f"What is it, {n}?"}
        rows.append(row | {name: cell(n) if callable(cell) else cell for name, cell in columns.items()})
    return rows


def ten(n: int) -> list[str]:
    """What ten people answered: three of them red."""
    return ["red"] * 3 + ["blue"] * 7


def _mmmu() -> Rows:
    empty = {f"image_{k}": None for k in range(1, 8)}
    base = {**empty, "question_type": "multiple-choice", "options": "['<image 2>', 'blue', \"it's\"]"}
    return [
        {**base, "id": "validation_Art_1", "question": "Which, 0, of <image 1>?", "answer": "B"}
        | {"image_2": picture(2), "image_1": picture(1)},
        {**base, "id": "validation_Art_Theory_2", "question": "How many, 1, in <image 1>?", "answer": "7.0"}
        | {"options": "[]", "question_type": "open", "image_1": picture(1)},
        {**base, "id": "validation_Art_3", "question": "Which, 2, of <image 1>?", "answer": "A", "image_1": picture(1)}
        | {"options": "['red', 'blue']"},
    ]


def _mathvista() -> Rows:
    def query(n: int) -> str:
        return f"Hint: Please answer the question.\nQuestion: What is it, {n}?"

    kinds = [("text", None, COLOURS, "blue"), ("float", 1.0, None, "1.2"), ("integer", None, None, "7")]
    return three(
        pid=str,
        query=query,
        image="images/1.jpg",
        decoded_image=picture,
        answer_type=lambda n: kinds[n][0],
        precision=lambda n: kinds[n][1],
        choices=lambda n: kinds[n][2],
        answer=lambda n: kinds[n][3],
        question_type=lambda n: "free_form" if n else "multi_choice",
    )


def _hallusion() -> Rows:
    keys = [("1", "0"), ("1", "1"), ("2", "0")]
    return three(
        category="VD",
        subcategory="illusion",
        set_id="0",
        figure_id=lambda n: keys[n][0],
        question_id=lambda n: keys[n][1],
        visual_input="1",
        gt_answer=lambda n: "01"[n % 2],
        gt_answer_details="It is so.",
    )


def _mme() -> Rows:
    tasks = ["existence", "existence", "code_reasoning", "code_reasoning"]
    return [
        {
            "question_id": f"{task}/1.png",
            "image": picture(n // 2),
            "question": f"Is it there, {n}? Please answer yes or no.",
            "answer": ["Yes", "No"][n % 2],
            "category": task,
        }
        for n, task in enumerate(tasks)
    ]


def _pope() -> Rows:
    return three(
        question_id=lambda n: str(n // 2),
        answer=lambda n: ["yes", "no", "yes"][n],
        category=lambda n: ["adversarial", "adversarial", "random"][n],
    )


def _blink() -> dict[str, Rows]:
    found = {}
    for n, task in enumerate(BLINK):
        images = {f"image_{k}": picture(n) if k == 1 else None for k in range(1, 5)}
        prompt = f"Which is it, {n}, of the two?\nSelect from the following choices.\n(A) red\n(B) blue"
        row = {
            "idx": f"val_{task}_1",
            "question": "Which?",
            "sub_task": task,
            "choices": ["red", "blue"],
            "answer": "(A)",
        }
        found[f"BLINK-Benchmark/BLINK/{task}/val.parquet"] = [row | images | {"prompt": prompt}]
    return found


def _ifeval() -> Rows:
    kwargs = {"keywords": None, "num_words": None}
    return [
        {
            "key": n,
            "prompt": f"Write, {n}, without commas.",
            "instruction_id_list": ["punctuation:no_comma"],
            "kwargs": [kwargs],
        }
        for n in range(3)
    ]


def _mmlu(count: int, question: str = "What is it") -> Rows:
    subjects = ["anatomy", "high_school_biology"]
    return [
        {"question": f" {question}, {n}? ", "subject": subjects[n % 2], "choices": COLOURS, "answer": n % 4}
        for n in range(count)
    ]


def _hellaswag() -> Rows:
    endings = ["[substeps] Sit  down.", "run away [title] Then rest.", "sing.", "eat cake with the others."]
    return [
        {"ind": n, "activity_label": f"Baking, {n}", "ctx_a": "A man stands. [header] How?", "ctx_b": "he THEN"}
        | {"ctx": "A man stands. he THEN", "endings": endings, "label": str(n), "source_id": "w", "split": "val"}
        | {"split_type": ["indomain", "zeroshot", "zeroshot"][n]}
        for n in range(3)
    ]


def _lambada() -> Rows:
    """Passages whose last word is behind the last space; one has a line end and two spaces in it."""
    texts = [
        "He looked at the house, 0.  \nThen he opened the door",
        "What she saw, 1, was a cat",
        "A man, 2, met a man's dog",
    ]
    return [{"text": text} for text in texts]


def _ultrachat() -> Rows:
    """One turn, two turns, and four that are not taken: too long a reply, too long a whole, no reply at the end, an empty one."""
    said = [
        ["What is it, 0?", "It is a running cat."],
        ["Hello.", "Hi!", "What is it, 1?", "Two dogs are sleeping."],
        ["What is it, 2?", "a" * 2049],
        ["What is it, 3?" + "b" * 8192, "yes"],
        ["What is it, 4?", "yes", "And?"],
        ["What is it, 5?", " "],
    ]
    return [
        {"prompt": texts[0], "prompt_id": f"p{n}"}
        | {
            "messages": [
                {"content": text, "role": ("user", "assistant")[place % 2]} for place, text in enumerate(texts)
            ]
        }
        for n, texts in enumerate(said)
    ]


def _part(name: str, rows: Rows, *more: Any) -> dict[str, Rows]:
    """Rows by the name of their file, which may lack its usual end; further names and rows may follow."""
    file = name if name.endswith(".parquet") else f"{name}-00000-of-00001.parquet"
    return {file: rows} | (_part(*more) if more else {})


# The parquet files of each task, below the folder of data.
PARQUET: dict[str, dict[str, Rows]] = {
    "mmstar": _part(
        "Lin-Chen/MMStar/mmstar.parquet",
        three(
            index=lambda n: n,
            question=lambda n: f"What is it, {n}?\nOptions: A: red, B: blue, C: green, D: black",
            answer="B",
            category="math",
            l2_category=lambda n: ["geometry", "geometry", "statistical reasoning"][n],
            meta_info={"source": "MMMU"},
        ),
    ),
    "mmmu": _part(f"{HUB}/MMMU/data/validation", _mmmu()),
    "mathvista": _part("AI4Math/MathVista/data/testmini", _mathvista()),
    "ocrbench": _part(
        "echo840/OCRBench/data/test",
        three(
            dataset=lambda n: "HME100k" if n == 0 else "IIIT5K",
            question_type=lambda n: "Formula" if n == 0 else "Regular Text",
            answer=lambda n: [["x ^ 2"], ["STOP", "HALT"], ["GO"]][n],
        ),
    ),
    "ai2d": _part(f"{HUB}/ai2d/data/test", three(options=lambda n: COLOURS, answer=str)),
    "hallusion_bench": _part(f"{HUB}/HallusionBench/data/image", _hallusion()),
    "mm_vet": _part(f"{HUB}/MMVet/data/test", three(answer="red<AND>blue", capability="rec,ocr")),
    "vqav2": _part(
        f"{HUB}/VQAv2/data/validation",
        three(
            question_id=lambda n: 100 + n,
            answers=lambda n: [{"answer": one, "answer_id": k} for k, one in enumerate(ten(n))],
        ),
    ),
    "gqa": _part(
        f"{HUB}/GQA/testdev_balanced_instructions/testdev",
        [{"id": f"g{n}", "imageId": f"i{n % 2}", "question": f"What is it, {n}?", "answer": "red"} for n in range(3)],
        f"{HUB}/GQA/testdev_balanced_images/testdev",
        [{"id": f"i{n}", "image": picture(n)} for n in range(2)],
    ),
    "ok_vqa": _part(f"{HUB}/OK-VQA/data/val2014", three(question_id=str, answers=ten)),
    "vizwiz": _part(
        f"{HUB}/VizWiz-VQA/data/val",
        three(question_id=lambda n: f"v{n}", question=lambda n: f"what is THIS, {n}?", answers=ten),
    ),
    "textvqa": _part(
        f"{HUB}/textvqa/data/validation",
        three(question_id=lambda n: n, question=lambda n: f"what is this, {n}?", answers=ten),
    ),
    "docvqa": _part(
        f"{HUB}/DocVQA/DocVQA/validation", three(questionId=str, answers=lambda n: ["university", "the university"])
    ),
    "infovqa": _part(f"{HUB}/DocVQA/InfographicVQA/validation", three(questionId=str, answers=lambda n: ["hello"])),
    "chartqa": _part(
        f"{HUB}/ChartQA/data/test", three(answer="100", type=lambda n: "human_test" if n else "augmented_test")
    ),
    "scienceqa": _part(
        f"{HUB}/ScienceQA/ScienceQA-IMG/test",
        three(hint=lambda n: "" if n else "It is big.", choices=lambda n: COLOURS[:3], answer=lambda n: n),
    ),
    "realworldqa": _part(
        f"{HUB}/RealWorldQA/data/test", three(answer=lambda n: ["B", "3", "A"][n], image_path=lambda n: f"{n}.webp")
    ),
    "blink": _blink(),
    "seed_bench": _part(
        f"{HUB}/SEED-Bench/data/test",
        three(
            image=lambda n: [picture(n)],
            **{f"choice_{letter}": colour for letter, colour in zip("abcd", COLOURS, strict=True)},
            answer="A",
            data_type=lambda n: "image" if n < 2 else "video",
        ),
    ),
    "pope": _part(f"{HUB}/POPE/data/test", _pope()),
    "mme": _part(f"{HUB}/MME/data/test", _mme()),
    "coco_captions": _part(
        f"{HUB}/COCO-Caption2017/data/val",
        three(question="Please come up with a caption.", answer=lambda n: [f"a red cat number {n}", "one cat"]),
    ),
    "flickr30k": _part(
        f"{HUB}/flickr30k/data/test", three(img_id=str, caption=lambda n: [f"a red dog number {n}", "one dog"])
    ),
    "mmlu": _part(
        "cais/mmlu/all/test",
        [{"question": f"What is it, {n}?", "subject": "anatomy", "choices": COLOURS, "answer": n} for n in range(3)],
    ),
    "gsm8k": _part(
        "openai/gsm8k/main/test",
        [{"question": f"How many, {n}?", "answer": "2 and 5 are 7.\n#### 7"} for n in range(3)],
    ),
    "ifeval": _part("google/IFEval/default/train/0000.parquet", _ifeval()),
    "mmlu_likelihood": _part("cais/mmlu/all/test", _mmlu(3), "cais/mmlu/all/dev", _mmlu(7, "Which one")),
    "hellaswag": _part("Rowan/hellaswag/data/validation", _hellaswag()),
    "lambada_openai": _part("EleutherAI/lambada_openai/default/test/0000.parquet", _lambada()),
    **dict.fromkeys(("ultrachat", "kl_ultrachat"), _part("HuggingFaceH4/ultrachat_200k/data/test_sft", _ultrachat())),
}
for _name, _labels in (("ARC-Easy", ["A", "B", "C", "D"]), ("ARC-Challenge", ["1", "2", "3", "4"])):
    PARQUET[_name.replace("-", "_").lower()] = PARQUET[f"{_name.replace('-', '_').lower()}_likelihood"] = _part(
        f"allenai/ai2_arc/{_name}/test",
        [
            {"id": f"M{n}", "question": f"What is it, {n}?", "answerKey": _labels[n]}
            | {"choices": {"text": COLOURS, "label": _labels}}
            for n in range(3)
        ],
    )
