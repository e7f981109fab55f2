"""The single steps that micro.py measures, in the order of the pipeline: name → what it is."""

__all__ = ["STEPS"]

STEPS = {
    "decode": "a frame of JSON into typed ticks",
    "group": "ticks by topic",
    "encode": "a topic's ticks in msgpack, one each",
    "batch": "the batch around them",
    "route": "a batch decoded, looked up and numbered",
    "arbitrate": "the same of two lines that carry the same, compared",
    "journal": "a record appended, its check sum included",
    "publish": "messages around the ticks",
    "subscriber": "a message decoded, and its tick typed",
}
