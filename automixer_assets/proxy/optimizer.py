"""AdamW, and the gradients of one step: a micro-batch at a time, averaged over the processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from automixer_assets.proxy.world import World
from automixer_assets.settings import Training

if TYPE_CHECKING:
    import torch
    from torch.optim import Optimizer
    from transformers import PreTrainedModel


def make_optimizer(model: PreTrainedModel, training: Training) -> Optimizer:
    """AdamW with weight decay on the linear layers' matrices only.

    Norm gains are not decayed, as everywhere; neither are token embeddings: decay shrinks the rows of rare tokens,
    which only frequent tokens' gradients could restore (OLMo 2 measured steadier training without). A head tied to
    the embedding counts as embedding.
    """
    from torch.optim import AdamW

    embedding = model.get_input_embeddings().weight
    decayed = [p for p in model.parameters() if p.ndim >= 2 and p is not embedding]
    others = [p for p in model.parameters() if p.ndim < 2 or p is embedding]
    groups = [{"params": decayed, "weight_decay": training.weight_decay}, {"params": others, "weight_decay": 0.0}]
    # Fused and unfused updates differ in the last bit: one of them always, or a resumed run would differ.
    return AdamW(groups, lr=training.learning_rate, betas=(training.beta1, training.beta2), eps=1e-8, fused=True)


def accumulate_gradients(module: Any, rows: Any, training: Training, world: World) -> torch.Tensor:
    """Add the gradients of the mean loss over the global batch; returns that loss.

    `rows` are this rank's ids [B / world size, S]. All sequences have the same length, so a micro-batch counts by
    its number of sequences.
    """
    import torch

    ids = torch.as_tensor(rows, dtype=torch.long).to(world.device)
    parts = ids.split(training.micro_batch_size or len(ids))
    losses = []
    for number, part in enumerate(parts, start=1):
        with world.gradient_exchange(module, now=number == len(parts)):
            loss = token_loss(module, part, training.precision) * (len(part) / len(ids))
            loss.backward()
        losses.append(loss.detach())
    return world.mean(torch.stack(losses).sum())


def clip_gradients(model: PreTrainedModel, largest_norm: float, world: World) -> torch.Tensor:
    """Scale all gradients so that their norm together is at most that; returns the norm before."""
    import torch

    norm: Any = torch.nn.utils.clip_grad_norm_(model.parameters(), largest_norm)
    return norm.full_tensor() if world.sharded else norm


def recompute_activations(model: PreTrainedModel) -> None:
    """Keep each layer's input only and compute the rest again in the backward pass: the same bits in less memory."""
    enable: Any = getattr(model, "activation_checkpointing_enable", None)  # renamed within transformers 5
    enable = enable or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def token_loss(module: Any, ids: torch.Tensor, precision: str) -> torch.Tensor:
    """Mean cross-entropy in nats over the predicted tokens of ids [B, S]; float32 whatever the precision."""
    import torch

    with torch.autocast(ids.device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        logits = module(input_ids=ids, use_cache=False).logits  # [B, S, V]
    return torch.nn.functional.cross_entropy(logits[:, :-1].float().flatten(0, 1), ids[:, 1:].flatten())
