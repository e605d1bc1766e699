#!/usr/bin/env python3
"""Write a tiny random llama model as a folder for transformers, vLLM and SGLang: real protocol, random text.

Usage: make-tiny-llama.py FOLDER

Two layers, width 128, byte-level vocabulary, ChatML template, 2,048 tokens of context, seeded: the same files every time.
Needs the packages numpy, safetensors and tokenizers.
"""

import json
import pathlib
import sys

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

VOCABULARY, WIDTH, HEADS, LAYERS, FEED_FORWARD, CONTEXT = 320, 128, 4, 2, 256, 2048
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def tokenizer():
    """A token a byte, the special ones, and unused ones up to the vocabulary's size."""
    letters = SPECIAL + sorted(pre_tokenizers.ByteLevel.alphabet())
    letters += [f"<|unused{n}|>" for n in range(VOCABULARY - len(letters))]
    made = Tokenizer(models.BPE(vocab={letter: n for n, letter in enumerate(letters)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(SPECIAL)
    return made


def weights():
    """Random weights of every tensor, in transformers' names."""
    random = np.random.default_rng(7)

    def matrix(rows, columns):
        return random.normal(0, 0.1, (rows, columns)).astype(np.float32)

    yield "model.embed_tokens.weight", matrix(VOCABULARY, WIDTH)
    for layer in range(LAYERS):
        name = f"model.layers.{layer}"
        for part in "qkvo":
            yield f"{name}.self_attn.{part}_proj.weight", matrix(WIDTH, WIDTH)
        for part in ("gate", "up"):
            yield f"{name}.mlp.{part}_proj.weight", matrix(FEED_FORWARD, WIDTH)
        yield f"{name}.mlp.down_proj.weight", matrix(WIDTH, FEED_FORWARD)
        for part in ("input_layernorm", "post_attention_layernorm"):
            yield f"{name}.{part}.weight", np.ones(WIDTH, np.float32)
    yield "model.norm.weight", np.ones(WIDTH, np.float32)
    yield "lm_head.weight", matrix(VOCABULARY, WIDTH)


def config():
    """As transformers' LlamaConfig writes it."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": VOCABULARY,
        "hidden_size": WIDTH,
        "intermediate_size": FEED_FORWARD,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "max_position_embeddings": CONTEXT,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "bos_token_id": 0,
        "eos_token_id": 0,
    }


def tokenizer_config():
    """What transformers has to know to read tokenizer.json."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": CONTEXT,
        "bos_token": SPECIAL[0],
        "eos_token": SPECIAL[0],
        "pad_token": SPECIAL[0],
        "additional_special_tokens": SPECIAL[1:],
        "chat_template": CHATML,
    }


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer().save(str(folder / "tokenizer.json"))
    for name, content in (("config", config()), ("tokenizer_config", tokenizer_config())):
        (folder / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
    save_file(dict(weights()), str(folder / "model.safetensors"), metadata={"format": "pt"})


main()
