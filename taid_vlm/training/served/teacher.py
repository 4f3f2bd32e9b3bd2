"""What stands where a teacher's hidden states would: the K most likely tokens at a batch's answer rows, asked for anew."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from taid_vlm.common.errors import UserError
from taid_vlm.data import PairedBatch
from taid_vlm.data.collate import PaddedSide
from taid_vlm.losses import TopK
from taid_vlm.training.served.client import Client
from taid_vlm.training.served.rows import Known, rows_of

# Requests at once of each process; the server batches them, and a queue of its own does the rest.
PARALLEL = 32


class ServedTeacher:
    """A model of a vLLM server.

    Holds nothing of a run: an answer is a function of the batch, so a resumed run meets the teacher that it would have met.

    Args:
        model: its name on the server.
        top_k: tokens known of each row. tail: what is taken for the others, see :class:`TopK`.
    """

    def __init__(self, client: Client, model: str, top_k: int, tail: str, parallel: int = PARALLEL) -> None:
        self.client, self.model, self.top_k, self.tail, self.parallel = client, model, top_k, tail, parallel

    def rows(self, batch: PairedBatch, device: torch.device) -> TopK:
        """``[R, K]`` at the rows of a batch, in their order.

        Raises:
            UserError: the server cannot be reached or does not answer as vLLM does.
        """
        prompts = [] if batch.teacher is None else prompts_of(batch.teacher)
        known = [row for rows in self._all(prompts) for row in rows]
        ids = torch.tensor([ids for ids, _ in known], dtype=torch.long).reshape(-1, self.top_k)
        values = torch.tensor([values for _, values in known], dtype=torch.float32).reshape(-1, self.top_k)
        return TopK(ids, values, self.tail).to(device)

    def completion(self, ids: list[int]) -> Any:
        """The server's answer to one prompt.

        Raises:
            UserError: see :meth:`Client.post`.
        """
        body = {
            "model": self.model,
            "prompt": ids,
            "max_tokens": 1,  # 0 is refused
            "temperature": 0,
            "prompt_logprobs": self.top_k,
            "return_token_ids": True,  # older servers do not know it, and do without
        }
        return self.client.post("/v1/completions", body)

    def known(self, answer: Any, ids: list[int], rows: list[int]) -> list[Known]:
        """What an answer says at some rows of its prompt.

        Raises:
            UserError: see :func:`rows_of`.
        """
        return rows_of(answer, ids, rows, self.top_k)

    def _all(self, prompts: list[tuple[list[int], list[int]]]) -> list[list[Known]]:
        pool = ThreadPoolExecutor(max_workers=max(1, min(self.parallel, len(prompts))))
        try:
            return list(pool.map(lambda prompt: self.known(self.completion(prompt[0]), *prompt), prompts))
        finally:
            pool.shutdown(cancel_futures=True)  # one failure is enough


def prompts_of(side: PaddedSide) -> list[tuple[list[int], list[int]]]:
    """Token ids and rows of each sequence that has rows, up to the last token that a row predicts."""
    if side.position_ids is not None:
        raise UserError("a served teacher takes one sample to a row, and this batch is packed on the teacher's side")
    length = side.input_ids.shape[1]
    by_sequence: dict[int, list[int]] = {}
    for row in side.rows.tolist():
        by_sequence.setdefault(row // length, []).append(row % length)
    # What comes after the last supervised token does not matter to the rows before it.
    return [(side.input_ids[b, : max(rows) + 2].tolist(), rows) for b, rows in by_sequence.items()]
