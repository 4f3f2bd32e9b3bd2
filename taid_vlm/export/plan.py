"""Which runtimes will load a student, told before it is trained."""

from dataclasses import dataclass

from taid_vlm.export.facts import Facts, facts_of
from taid_vlm.export.targets import TARGETS, Obstacle
from taid_vlm.models.image_text import SMOLVLM_AROUND, SMOLVLM_WHOLE
from taid_vlm.models.processor import Processor
from taid_vlm.models.specs import StudentSpec
from taid_vlm.models.student import Student

# What vLLM's own classes take. Read in its registry and loaders, not run; anything else goes through its transformers
# backend, which is slower.
VLLM_LLAVA_TOWERS = ("clip_vision_model", "siglip_vision_model")
# What llama.cpp's converter and loader take as a text model.
LLAMA_CPP_TEXTS = (
    *("llama", "qwen2", "qwen3", "gemma2", "gemma3_text", "phi3", "mistral", "olmo2", "granite", "smollm3"),
    "gpt_neox",
)
LFM2_PATCH = 16  # llama.cpp's converter of LFM2-VL knows no other
BACKEND = "vllm serve FOLDER --model-impl transformers"


@dataclass(frozen=True)
class RuntimeVerdict:
    """One runtime.

    Attributes:
        loads: whether it takes the student as exported. how: by which class or command, or why not.
        change: the one change of the recipe that would make it load; empty where none is needed or none is enough.
    """

    runtime: str
    loads: bool
    how: str
    change: str = ""


@dataclass(frozen=True)
class ExportPlan:
    """What becomes of a student.

    Attributes:
        target: what ``--to auto`` takes. refusals: for each other kind, what keeps the student out.
    """

    target: str
    refusals: dict[str, str]
    runtimes: tuple[RuntimeVerdict, ...]


def export_plan(student: Student, processor: Processor, spec: StudentSpec) -> ExportPlan:
    """The plan for a student with or without weights; also on the meta device."""
    return plan_of(facts_of(student, processor, spec))


def plan_of(facts: Facts) -> ExportPlan:
    """The plan for a student of these facts."""
    if not facts.sees:
        return ExportPlan("language_model", {}, _language_only(facts))
    obstacles = {name: TARGETS.get(name).obstacles(facts) for name in TARGETS}
    refusals = {
        name: "; ".join(f"{one.reason} ({one.change})" for one in found) for name, found in obstacles.items() if found
    }
    target = fitting(facts) or "custom"
    return ExportPlan(
        target, refusals, (_transformers(target, obstacles), _vllm(target, facts), _llama_cpp(target, facts, obstacles))
    )


def fitting(facts: Facts) -> str:
    """The first class that holds the student; empty if none does."""
    if not facts.sees:
        return ""
    return next((name for name in TARGETS if not TARGETS.get(name).obstacles(facts)), "")


def _language_only(facts: Facts) -> tuple[RuntimeVerdict, ...]:
    known = facts.text in LLAMA_CPP_TEXTS
    return (
        RuntimeVerdict("transformers", True, "AutoModelForCausalLM"),
        RuntimeVerdict("vLLM", True, "vllm serve FOLDER"),
        RuntimeVerdict(
            "llama.cpp",
            known,
            "taid-vlm export --gguf" if known else f"its converter does not know {facts.text}",
            "" if known else "choose a language model such as Llama or Qwen",
        ),
    )


def _transformers(target: str, obstacles: dict[str, list[Obstacle]]) -> RuntimeVerdict:
    if target != "custom":
        return RuntimeVerdict("transformers", True, f"{TARGETS.get(target).architecture}, no code of ours")
    how = "with trust_remote_code=True, by the modelling code that is written beside the weights"
    return RuntimeVerdict("transformers", False, how, _one_change(obstacles))


def _vllm(target: str, facts: Facts) -> RuntimeVerdict:
    if target == "custom":
        return RuntimeVerdict("vLLM", False, f"{BACKEND} --trust-remote-code", "a student that a stock class holds")
    if target == "smolvlm":
        if facts.text == "llama":
            return RuntimeVerdict("vLLM", True, "vllm serve FOLDER")
        return RuntimeVerdict(
            "vLLM",
            False,
            f"its SmolVLM has a Llama inside, not {facts.text}: {BACKEND}",
            "choose a Llama such as SmolLM2",
        )
    if target == "llava":
        if facts.projector == "linear":
            return RuntimeVerdict(
                "vLLM", False, f"its Llava has no linear activation: {BACKEND}", "set projector.name to mlp"
            )
        if not any(tower in VLLM_LLAVA_TOWERS for tower in facts.towers):
            return RuntimeVerdict(
                "vLLM",
                False,
                f"its Llava takes CLIP and SigLIP towers only: {BACKEND}",
                "choose a CLIP or SigLIP encoder",
            )
        return RuntimeVerdict("vLLM", True, "vllm serve FOLDER")
    if target == "internvl":
        return RuntimeVerdict("vLLM", True, "vllm serve FOLDER")
    return RuntimeVerdict(
        "vLLM", True, "vllm serve FOLDER, by its transformers backend (slower than a class of its own)"
    )


def _llama_cpp(target: str, facts: Facts, obstacles: dict[str, list[Obstacle]]) -> RuntimeVerdict:
    if facts.text not in LLAMA_CPP_TEXTS:
        return RuntimeVerdict(
            "llama.cpp",
            False,
            f"its converter does not know {facts.text}",
            "choose a language model such as Llama or Qwen",
        )
    if gguf_refusal(target, facts) == "":
        return RuntimeVerdict("llama.cpp", True, "taid-vlm export --gguf: text and mmproj files")
    change = obstacles["smolvlm"][0].change if len(obstacles["smolvlm"]) == 1 else ""
    if target == "smolvlm":
        change = f"set student.added_tokens to ['{SMOLVLM_AROUND}', '{SMOLVLM_WHOLE}']"
    return RuntimeVerdict("llama.cpp", False, gguf_refusal(target, facts), change)


def gguf_refusal(target: str, facts: Facts) -> str:
    """Why llama.cpp's converter makes no mmproj file of this export; empty if it does."""
    if target == "smolvlm":
        missing = [marker for marker in (SMOLVLM_AROUND, SMOLVLM_WHOLE) if marker not in facts.tokens]
        return (
            f"it looks up the markers of pictures as tokens, and the tokenizer lacks {' and '.join(missing)}"
            if missing
            else ""
        )
    if target == "lfm2_vl":
        assert facts.contract is not None
        patch = facts.contract.image.size // facts.contract.grid[0]
        if patch != LFM2_PATCH:
            return f"its LFM2-VL has patches of {LFM2_PATCH} pixels, the encoder {patch}"
        return "" if facts.tied else "its LFM2-VL has tied embeddings, the language model has not"
    return f"it has no class for {target}; its classes are SmolVLM and LFM2-VL"


def _one_change(obstacles: dict[str, list[Obstacle]]) -> str:
    """The change that opens the first class with a single obstacle."""
    for name, found in obstacles.items():
        if len(found) == 1:
            return f"{found[0].change} ({name})"
    return ""
