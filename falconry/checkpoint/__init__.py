"""A Falcon checkpoint: architecture, tensors, tokenizer, and the files that decide it."""
