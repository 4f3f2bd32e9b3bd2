"""What is public of each family's form, written down a second time, without templates."""

from collections.abc import Callable

Form = Callable[[str, bool], str]  # (answer, whether it is the last) -> the words that are marked


def _as_it_is(answer: str, last: bool) -> str:
    return answer


def _trimmed(answer: str, last: bool) -> str:
    return answer.strip()


def _no_leading_lines(answer: str, last: bool) -> str:
    return answer.lstrip("\n")


def _thought(answer: str) -> tuple[str, str]:
    """What stands between the tags, and what behind them."""
    if "</think>" not in answer:
        return "", answer
    before, _, words = answer.partition("</think>")
    return before.rpartition("<think>")[2].strip("\n"), words.lstrip("\n")


def _not_asked_to_think(answer: str, last: bool) -> str:
    thought, words = _thought(answer)
    if not last:
        return words
    return (f"<think>\n{thought}\n</think>\n\n" if thought else "") + words.lstrip("\n")


def _asked_to_think(answer: str, last: bool) -> str:
    thought, words = _thought(answer)
    return f"<think>\n{thought}\n</think>\n\n" + words.lstrip("\n")


ANSWER_FORMS: dict[str, Form] = {
    "chatml": _as_it_is,
    "smollm2": _as_it_is,
    "qwen2": _as_it_is,
    "qwen2_5": _as_it_is,
    "qwen3": _not_asked_to_think,
    "qwen3_thinking": _asked_to_think,
    "smollm3": _no_leading_lines,
    "llama3": _trimmed,
    "llama3_1": _trimmed,
    "stablelm_zephyr": _as_it_is,
    "olmo2": _as_it_is,
    "granite": _as_it_is,
    "plain": _as_it_is,
    "gemma": _trimmed,
    "internlm2": _as_it_is,
    "llama2": lambda answer, last: f" {answer.strip()} ",
    "tinyllama": _as_it_is,
    "vicuna": lambda answer, last: f" {answer}",
    "mistral": lambda answer, last: f" {answer.strip()}",
    "phi3": lambda answer, last: answer.lstrip(),
    "internvl2_phi3": lambda answer, last: answer.lstrip(),
    "internvl2_5": _as_it_is,
}
END_OF_TURN = {
    **dict.fromkeys(
        ["chatml", "smollm2", "qwen2", "qwen2_5", "qwen3", "qwen3_thinking", "smollm3", "internlm2", "internvl2_5"],
        "<|im_end|>",
    ),
    **dict.fromkeys(["llama3", "llama3_1"], "<|eot_id|>"),
    **dict.fromkeys(["stablelm_zephyr", "olmo2", "plain"], "<|endoftext|>"),
    **dict.fromkeys(["llama2", "tinyllama", "vicuna", "mistral"], "</s>"),
    "granite": "<|end_of_text|>",
    "gemma": "<end_of_turn>",
    **dict.fromkeys(["phi3", "internvl2_phi3"], "<|end|>"),
}
# Qwen3 thinks (of nothing) before its last answer alone.
SAME_EACH_TURN = set(ANSWER_FORMS) - {"qwen3", "qwen3_thinking"}
# Where earlier answers have lost their thoughts, and teach nothing.
LAST_ALONE = {"qwen3_thinking"}

# A conversation of system prompt, question, answer, question, answer, as text.
ASKED = [
    ("system", "Be brief."),
    ("user", "Hello"),
    ("assistant", "Hi there"),
    ("user", "Who?"),
    ("assistant", "A model"),
]
TEXTS = {
    "chatml": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\nHi there<|im_end|>\n"
    "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\nA model<|im_end|>\n",
    "llama2": "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHello [/INST] Hi there </s><s>[INST] Who? [/INST] A model </s>",
    "llama3": "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>"
    "\n\nHello<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHi there<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
    "Who?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nA model<|eot_id|>",
    "llama3_1": "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: 26 Jul "
    "2024\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHello<|eot_id|><|start_header_id|>assistant<|end_header_id|>"
    "\n\nHi there<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nWho?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    "A model<|eot_id|>",
    "tinyllama": "<|system|>\nBe brief.</s>\n<|user|>\nHello</s>\n<|assistant|>\nHi there</s>\n<|user|>\nWho?</s>\n<|assistant|>\n"
    "A model</s>\n",
    "stablelm_zephyr": "<|system|>\nBe brief.<|endoftext|>\n<|user|>\nHello<|endoftext|>\n<|assistant|>\nHi there<|endoftext|>\n"
    "<|user|>\nWho?<|endoftext|>\n<|assistant|>\nA model<|endoftext|>\n",
    "gemma": "<bos><start_of_turn>user\nBe brief.\n\nHello<end_of_turn>\n<start_of_turn>model\nHi there<end_of_turn>\n"
    "<start_of_turn>user\nWho?<end_of_turn>\n<start_of_turn>model\nA model<end_of_turn>\n",
    "phi3": "<|system|>\nBe brief.<|end|>\n<|user|>\nHello<|end|>\n<|assistant|>\nHi there<|end|>\n<|user|>\nWho?<|end|>\n<|assistant|>\n"
    "A model<|end|>\n",
    "mistral": "<s>[INST] Be brief.\n\nHello[/INST] Hi there</s>[INST] Who?[/INST] A model</s>",
    "olmo2": "<|endoftext|><|system|>\nBe brief.\n<|user|>\nHello\n<|assistant|>\nHi there<|endoftext|>\n<|user|>\nWho?\n<|assistant|>\n"
    "A model<|endoftext|>",
    "granite": "<|start_of_role|>system<|end_of_role|>Be brief.<|end_of_text|>\n<|start_of_role|>user<|end_of_role|>Hello<|end_of_text|>\n"
    "<|start_of_role|>assistant<|end_of_role|>Hi there<|end_of_text|>\n<|start_of_role|>user<|end_of_role|>Who?<|end_of_text|>\n"
    "<|start_of_role|>assistant<|end_of_role|>A model<|end_of_text|>\n",
    "smollm3": "<|im_start|>system\n## Metadata\n\nKnowledge Cutoff Date: June 2025\nToday Date: 08 July 2025\nReasoning Mode: /no_think\n\n"
    "## Custom Instructions\n\nBe brief.\n\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\nHi there"
    "<|im_end|>\n<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\nA model<|im_end|>\n",
    "internlm2": "<s><|im_start|>system\nBe brief.<|im_end|><|im_start|>user\nHello<|im_end|><|im_start|>assistant\nHi there<|im_end|>"
    "<|im_start|>user\nWho?<|im_end|><|im_start|>assistant\nA model<|im_end|>",
    "vicuna": "<s>Be brief. USER: Hello ASSISTANT: Hi there</s>USER: Who? ASSISTANT: A model</s>",
    "plain": "Be brief.\nHello\nHi there<|endoftext|>Who?\nA model<|endoftext|>",
}
TEXTS |= dict.fromkeys(["smollm2", "qwen2", "qwen2_5"], TEXTS["chatml"])
TEXTS["internvl2_5"] = "<s>" + TEXTS["chatml"]
TEXTS["internvl2_phi3"] = TEXTS["phi3"].replace("<|end|>\n", "<|end|>")
TEXTS["qwen3"] = TEXTS["qwen3_thinking"] = TEXTS["chatml"].replace("A model", "<think>\n\n</think>\n\nA model")

# What stands before the first question of a conversation without a system prompt.
ALONE = {
    **dict.fromkeys(["chatml", "qwen3", "qwen3_thinking", "tinyllama", "stablelm_zephyr", "phi3", "plain"], ""),
    **dict.fromkeys(["llama2", "mistral"], "<s>"),
    "smollm2": "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n",
    "qwen2": "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n",
    "qwen2_5": "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n",
    "llama3": "<|begin_of_text|>",
    "llama3_1": "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: 26 Jul "
    "2024\n\n<|eot_id|>",
    "gemma": "<bos>",
    "olmo2": "<|endoftext|>",
    "granite": "<|start_of_role|>system<|end_of_role|>Knowledge Cutoff Date: April 2024. Today's Date: April 16, 2025. You are Granite, "
    "developed by IBM. You are a helpful AI assistant.<|end_of_text|>\n",
    "smollm3": "<|im_start|>system\n## Metadata\n\nKnowledge Cutoff Date: June 2025\nToday Date: 08 July 2025\nReasoning Mode: /no_think\n\n"
    "## Custom Instructions\n\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face.\n\n",
    "internlm2": "<s><|im_start|>system\n你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, "
    "是一个有用无害的人工智能助手。<|im_end|>",
    "internvl2_5": "<s><|im_start|>system\n你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。<|im_end|>\n",
    "internvl2_phi3": "<|system|>\n你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, 是一个有用无害的人工智能助手。<|end|>",
    "vicuna": "<s>A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, and polite "
    "answers to the user's questions. ",
}
