"""``taid-vlm bridge``: parses, calls one function, prints."""

from pathlib import Path
from typing import Annotated

import typer

from taid_vlm.common.errors import UserError

bridge_app = typer.Typer(help="Other harnesses: run their tasks, or hand them our answers.", no_args_is_help=True)


@bridge_app.callback()
def bridge() -> None:
    """Other harnesses: run their tasks, or hand them our answers."""


@bridge_app.command("lm-eval")
def lm_eval(
    model: Annotated[str, typer.Argument(help="folder of a student or checkpoint, or a hub id")],
    tasks: Annotated[str, typer.Option(help="names of tasks of lm-eval, separated by commas")],
    output: Annotated[Path | None, typer.Option(help="folder for results.json and the samples of each task")] = None,
    batch_size: Annotated[int, typer.Option(help="texts read together")] = 32,
    include_path: Annotated[Path | None, typer.Option(help="folder of more task files of lm-eval")] = None,
    num_fewshot: Annotated[int | None, typer.Option(help="solved examples [as the task says]")] = None,
    limit: Annotated[int | None, typer.Option(help="at most so many records of each task")] = None,
    apply_chat_template: Annotated[
        bool, typer.Option("--apply-chat-template", help="ask in the model's template")
    ] = False,
    gen_kwargs: Annotated[str | None, typer.Option(help="over those of the tasks, as max_gen_toks=64,until=A")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ... [the first accelerator]")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16 or float16 [as stored]")] = None,
) -> None:
    """Run tasks of lm-evaluation-harness on any model that runs here."""
    from taid_vlm_eval.bridges.lm_eval import require, run
    from taid_vlm_eval.models import open_model

    require()  # loading a model takes long
    names = [name.strip() for name in tasks.split(",") if name.strip()]
    if not names:
        raise UserError("--tasks names none; `lm_eval ls tasks` lists them")
    run(
        open_model(model, device=device, dtype=dtype),
        names,
        output=output,
        batch_size=batch_size,
        include=include_path,
        shots=num_fewshot,
        limit=limit,
        apply_chat_template=apply_chat_template,
        gen_kwargs=gen_kwargs,
    )


@bridge_app.command()
def vlmevalkit(
    evaluation: Annotated[Path, typer.Argument(help="folder that taid-vlm eval wrote")],
    task: Annotated[str, typer.Option(help="name of a task in it")],
    out: Annotated[Path, typer.Option(help="folder to write to")] = Path("."),
    dataset: Annotated[
        str | None, typer.Option(help="name in VLMEvalKit [that of the task's protocols or file]")
    ] = None,
    model: Annotated[str | None, typer.Option(help="name of the model in the file's [that of the folder]")] = None,
    data: Annotated[Path | None, typer.Option(help="VLMEvalKit's TSV file of the data set, to check against")] = None,
    tasks_folder: Annotated[list[Path] | None, typer.Option(help="one more folder of tasks; may be repeated")] = None,
) -> None:
    """Write the answers of an evaluation as predictions that vlmutil eval scores."""
    from taid_vlm_eval.bridges.vlmevalkit import write_predictions

    written = write_predictions(
        evaluation, task, out, dataset=dataset, model=model, data=data, tasks_folders=tasks_folder or []
    )
    print(f"{written.path}: {written.count} predictions")
    for note in written.notes:
        print(note)
