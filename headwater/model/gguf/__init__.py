"""Decoders as GGUF files, which llama.cpp reads: which of its architectures a model is, the numbers, the file."""
