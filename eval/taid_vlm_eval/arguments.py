"""The options of the command line."""

import argparse

from taid_vlm_eval.answering import WORKERS
from taid_vlm_eval.models import ADAPTERS
from taid_vlm_eval.protocols import DEFAULT, PROTOCOLS
from taid_vlm_eval.suites import SUITES


def parser() -> argparse.ArgumentParser:
    """Of ``python -m taid_vlm_eval``."""
    made = argparse.ArgumentParser(prog="taid_vlm_eval", description="Evaluate a model on question-answer tasks.")
    made.add_argument(
        "model", nargs="?", help="folder of a student or checkpoint, a hub id, openai:MODEL@URL or vllm:PATH"
    )
    made.add_argument("--tasks", help="names or YAML files, separated by commas")
    made.add_argument("--suite", help=f"tasks that are read together: {', '.join(SUITES)}")
    made.add_argument("--list-tasks", action="store_true", help="print the names of all tasks and stop")
    made.add_argument("--limit", type=int, help="at most this many items of each task")
    made.add_argument("--seed", type=int, default=0, help="of the choice of items and the error bars (0)")
    made.add_argument("--batch-size", type=int, default=32, help="items asked at a time (32)")
    made.add_argument("--workers", type=int, default=WORKERS, help=f"threads that prepare batches ahead ({WORKERS})")
    made.add_argument("--processes", type=int, default=1, help="processes that share the work, each with its model (1)")
    made.add_argument("--output", help="folder for answers and results (evaluation/<model>)")
    made.add_argument("--tasks-folder", action="append", default=[], help="one more folder of tasks; may be repeated")
    made.add_argument("--adapter", help=f"how to load the model: {', '.join(ADAPTERS)} (found out)")
    made.add_argument("--device", help="cpu, cuda, cuda:1, ... (the first accelerator, else cpu)")
    made.add_argument("--dtype", help="float32, bfloat16, float16 (as stored)")
    made.add_argument("--trust-remote-code", action="store_true", help="run code that comes with the checkpoint")
    made.add_argument("--offline", action="store_true", help="fetch nothing: models and data must be here")
    made.add_argument("--protocol", default=DEFAULT, help=f"how to ask and to read: {', '.join(PROTOCOLS)} (default)")
    made.add_argument("--family", help="of the model, for a protocol (found out from its class)")
    made.add_argument("--letters", default="generated", help="of options: generated, or by likelihood (generated)")
    made.add_argument("--teacher", help="model from which tasks such as kl_chatterbot measure the divergence")
    made.add_argument("--judge", default="rule", help="rule, openai:MODEL@URL or local:PATH (rule)")
    made.add_argument("--timeout", type=float, default=120.0, help="seconds a server may take for an answer (120)")
    made.add_argument("--key-variable", default="OPENAI_API_KEY", help="environment variable with a server's key")
    made.add_argument("--judge-key-variable", default="OPENAI_API_KEY", help="the same for a judge")
    made.add_argument("--show-protocol", metavar="NAME", help="print what a protocol asks of --family, and stop")
    made.add_argument("--quiet", action="store_true", help="say nothing of how far it is")
    made.add_argument("--json", action="store_true", help="print results as JSON")
    return made
