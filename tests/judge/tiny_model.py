"""Writes a small BERT with random weights as GGUF: an embedding model for testing a server, which need not be clever.

usage: tiny_model.py TOKENIZER.json OUT.gguf

The words are those of the built-in model's tokenizer, so that every text has tokens. The weights come from a fixed
seed: the same file each time, and different texts have different vectors. Needs nothing but Python; the layout is that
of the GGUF specification, version 3.
"""

import array
import json
import random
import struct
import sys

WIDTH, HEADS, INNER, CONTEXT = 64, 4, 128, 512
# Of BERT's tokenizer, which the built-in model's does not have; the server puts them around every text.
SPECIAL = ["[CLS]", "[SEP]", "[MASK]"]
ALIGNMENT = 32
# Numbers of the specification: types of values, kinds of tokens, mean pooling, plain floats.
UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
NORMAL, UNKNOWN, CONTROL = 1, 2, 3
MEAN, F32 = 1, 0


def text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def scalar(kind, value):
    if kind == STRING:
        return text(value)
    return struct.pack({UINT32: "<I", INT32: "<i", FLOAT32: "<f", BOOL: "<?"}[kind], value)


def field(name, kind, value):
    return text(name) + struct.pack("<I", kind) + scalar(kind, value)


def fields(name, kind, values):
    head = struct.pack("<IIQ", ARRAY, kind, len(values))
    return text(name) + head + b"".join(scalar(kind, value) for value in values)


def vocabulary(path):
    """The words in the order of their numbers."""
    with open(path, encoding="utf-8") as file:
        known = json.load(file)["model"]["vocab"]
    return sorted(known, key=known.get) + [word for word in SPECIAL if word not in known]


def marked(word):
    """As the server has WordPiece: the beginnings of words carry a mark instead of their continuations."""
    if word in SPECIAL or word in ("[PAD]", "[UNK]"):
        return word
    return word[2:] if word.startswith("##") else "\u2581" + word


def kind_of(word):
    return UNKNOWN if word == "[UNK]" else CONTROL if word in SPECIAL or word == "[PAD]" else NORMAL


def metadata(words):
    token = {name: words.index(f"[{name}]") for name in ("CLS", "SEP", "MASK", "UNK", "PAD")}
    return [
        field("general.architecture", STRING, "bert"),
        field("general.name", STRING, "autoembed-tiny"),
        field("general.file_type", UINT32, F32),
        field("bert.context_length", UINT32, CONTEXT),
        field("bert.embedding_length", UINT32, WIDTH),
        field("bert.block_count", UINT32, 1),
        field("bert.feed_forward_length", UINT32, INNER),
        field("bert.attention.head_count", UINT32, HEADS),
        field("bert.attention.layer_norm_epsilon", FLOAT32, 1e-12),
        field("bert.attention.causal", BOOL, False),
        field("bert.pooling_type", UINT32, MEAN),
        field("tokenizer.ggml.model", STRING, "bert"),
        field("tokenizer.ggml.pre", STRING, "jina-v2-en"),
        field("tokenizer.ggml.token_type_count", UINT32, 2),
        field("tokenizer.ggml.bos_token_id", UINT32, token["CLS"]),
        field("tokenizer.ggml.seperator_token_id", UINT32, token["SEP"]),  # So spelt in the specification.
        field("tokenizer.ggml.mask_token_id", UINT32, token["MASK"]),
        field("tokenizer.ggml.unknown_token_id", UINT32, token["UNK"]),
        field("tokenizer.ggml.padding_token_id", UINT32, token["PAD"]),
        fields("tokenizer.ggml.tokens", STRING, [marked(word) for word in words]),
        fields("tokenizer.ggml.token_type", INT32, [kind_of(word) for word in words]),
    ]


def tensors(words):
    """Names and shapes, fastest dimension first, and how each is filled."""
    yield "token_embd.weight", (WIDTH, words), None
    yield "position_embd.weight", (WIDTH, CONTEXT), None
    yield "token_types.weight", (WIDTH, 2), None
    norms = ["token_embd_norm", "blk.0.attn_output_norm", "blk.0.layer_output_norm"]
    for name in norms:
        yield f"{name}.weight", (WIDTH,), 1.0
        yield f"{name}.bias", (WIDTH,), 0.0
    square = [(f"blk.0.{part}", WIDTH, WIDTH) for part in ("attn_q", "attn_k", "attn_v", "attn_output")]
    for name, come, go in square + [("blk.0.ffn_up", WIDTH, INNER), ("blk.0.ffn_down", INNER, WIDTH)]:
        yield f"{name}.weight", (come, go), None
        yield f"{name}.bias", (go,), None


def main(tokenizer, out):
    words = vocabulary(tokenizer)
    chance = random.Random(7)
    heads, data = [], bytearray()
    for name, shape, fill in tensors(len(words)):
        dimensions = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
        heads.append(text(name) + dimensions + struct.pack("<IQ", F32, len(data)))
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        numbers = array.array("f", ((chance.random() - 0.5) * 0.7 if fill is None else fill for _ in range(count)))
        if sys.byteorder == "big":
            numbers.byteswap()
        data += numbers.tobytes()
        data += bytes(-len(data) % ALIGNMENT)
    known = metadata(words)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(heads), len(known)) + b"".join(known) + b"".join(heads)
    with open(out, "wb") as file:
        file.write(head + bytes(-len(head) % ALIGNMENT) + data)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
