"""The TensorRT-LLM builder: engines for NVIDIA GPUs, built inside NVIDIA's own image."""
