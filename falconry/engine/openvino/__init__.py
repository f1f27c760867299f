"""Engines for OpenVINO GenAI: the Falcon graph built by hand, without PyTorch."""
