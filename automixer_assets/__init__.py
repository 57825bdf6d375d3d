"""AutoMixer as software-defined assets: which documents to pretrain on, in which groups, at which weights, and why."""

__version__ = "0.1.0"
