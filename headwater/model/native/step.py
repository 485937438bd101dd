"""What a compiled decoding step is given, as `pass.h` describes it."""

from __future__ import annotations

import ctypes

from headwater.model.native.weights import Matrix


class Layer(ctypes.Structure):
    _fields_ = (*((name, Matrix) for name in ("qkv", "out", "up", "down")),
                *((name, ctypes.c_void_p) for name in ("attention_norm", "feedforward_norm", "attention_output_norm",
                                                       "feedforward_output_norm", "keys", "values")))


class Step(ctypes.Structure):
    _fields_ = (("layers", ctypes.POINTER(Layer)), ("head", Matrix),
                *((name, ctypes.c_void_p) for name in ("embedding", "norm", "frequencies", "slopes", "tokens", "slots",
                                                       "logits", "workspace")),
                *((name, ctypes.c_int64) for name in ("rows", "depth", "hidden", "inner", "heads", "kv_heads", "width",
                                                      "rotated", "by_row", "by_head", "by_token")),
                *((name, ctypes.c_float) for name in ("eps", "magnitude", "score_scale", "log_n")),
                *((name, ctypes.c_int32) for name in ("stored", "kept", "interleaved", "threads")))
