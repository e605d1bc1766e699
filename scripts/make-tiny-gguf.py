#!/usr/bin/env python3
"""Write a tiny random llama model as GGUF: real protocol, random text.

Usage: make-tiny-gguf.py OUT.gguf

Two layers, width 64, byte-level vocabulary, ChatML template, 2,048 tokens of context, seeded: the same file every time.
Needs the packages gguf and numpy.
"""

import sys

import gguf
import numpy as np

WIDTH, HEADS, LAYERS, FEED_FORWARD, CONTEXT = 64, 4, 2, 128, 2048
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def vocabulary():
    """Special tokens, the 256 bytes, and letters."""
    kind = gguf.TokenType
    yield "<unk>", kind.UNKNOWN
    yield "<s>", kind.CONTROL
    yield "</s>", kind.CONTROL
    for byte in range(256):
        yield f"<0x{byte:02X}>", kind.BYTE
    yield "<|im_start|>", kind.CONTROL
    yield "<|im_end|>", kind.CONTROL
    for letter in "▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;!?'-":
        yield letter, kind.NORMAL


def tensors(words):
    """Names and random float32 weights of every tensor, in llama.cpp's names.

    The first dimension of the embedding is large and the same for every token, and the output weighs it down for all but ordinary
    letters: so the text is always valid UTF-8. It ends at max_tokens or the context's end only.
    """
    random = np.random.default_rng(7)
    embedding = random.normal(0, 0.1, (len(words), WIDTH)).astype(np.float32)
    embedding[:, 0] = 2.0
    output = random.normal(0, 0.05, (len(words), WIDTH)).astype(np.float32)
    output[:, 0] = [0.0 if kind == gguf.TokenType.NORMAL else -20.0 for _, kind in words]

    def matrix(*shape):
        return random.normal(0, 0.1, shape).astype(np.float32)

    yield "token_embd.weight", embedding
    for layer in range(LAYERS):
        prefix = f"blk.{layer}."
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            yield f"{prefix}{name}.weight", matrix(WIDTH, WIDTH)
        yield f"{prefix}ffn_gate.weight", matrix(FEED_FORWARD, WIDTH)
        yield f"{prefix}ffn_up.weight", matrix(FEED_FORWARD, WIDTH)
        yield f"{prefix}ffn_down.weight", matrix(WIDTH, FEED_FORWARD)
        for name in ("attn_norm", "ffn_norm"):
            yield f"{prefix}{name}.weight", np.ones(WIDTH, dtype=np.float32)
    yield "output_norm.weight", np.ones(WIDTH, dtype=np.float32)
    yield "output.weight", output


def add_hyperparameters(writer):
    writer.add_name("tiny-random")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)


def add_tokenizer(writer, words):
    writer.add_vocab_size(len(words))
    writer.add_tokenizer_model("llama")
    writer.add_token_list([word for word, _ in words])
    writer.add_token_scores([0.0] * len(words))
    writer.add_token_types([kind for _, kind in words])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(next(i for i, (word, _) in enumerate(words) if word == "<|im_end|>"))
    writer.add_add_bos_token(True)
    writer.add_chat_template(CHATML)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    words = list(vocabulary())
    writer = gguf.GGUFWriter(sys.argv[1], "llama")
    add_hyperparameters(writer)
    add_tokenizer(writer, words)
    for name, data in tensors(words):
        writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
