"""The simulation run (paper, section 3): model shapes, packed data, training, checkpoints, tokenizer."""
