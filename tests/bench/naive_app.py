"""The Faust app that one writes first: default settings, torch, one message after the other.

Started by the bench as a program; ``NAIVE_BROKER``, ``NAIVE_CHECKPOINT`` and ``NAIVE_SESSION_SECONDS`` say
where the broker and the weights are. Same weights, prefix, pooling and normalisation as the service.
"""

import os

import faust
import torch
from transformers import XLMRobertaModel, XLMRobertaTokenizerFast

SOURCE, TARGET = "naive.documents", "naive.vectors"
PREFIX, MAX_TOKENS = "query: ", 512


class Document(faust.Record):
    id: str
    text: str


app = faust.App(
    "naive",
    broker=f"kafka://{os.environ['NAIVE_BROKER']}",
    value_serializer="json",
    # The one setting that is no default: the local broker makes a join take half of it.
    broker_session_timeout=float(os.environ["NAIVE_SESSION_SECONDS"]),
)
documents = app.topic(SOURCE, value_type=Document)
vectors = app.topic(TARGET)

checkpoint = os.environ["NAIVE_CHECKPOINT"]
tokenizer = XLMRobertaTokenizerFast.from_pretrained(checkpoint)
model = XLMRobertaModel.from_pretrained(checkpoint, add_pooling_layer=False).eval()


@app.agent(documents)
async def encode(stream: faust.StreamT[Document]) -> None:
    async for document in stream:
        inputs = tokenizer(
            PREFIX + document.text, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        )
        with torch.no_grad():
            hidden = model(**inputs).last_hidden_state
        vector = torch.nn.functional.normalize(hidden.mean(dim=1), dim=1)[0]
        await vectors.send(value={"id": document.id, "vector": vector.tolist()})


async def say_ready(*_: object, **__: object) -> None:
    print("partitions assigned", flush=True)  # noqa: T201 (the bench waits for it)


app.on_partitions_assigned.connect(say_ready)

if __name__ == "__main__":
    app.main()
