from __future__ import annotations

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaRMSNorm


def _norm(self: LlamaRMSNorm, hidden: torch.Tensor) -> torch.Tensor:
    scale = torch.rsqrt(hidden.square().mean(-1, keepdim=True) + self.variance_epsilon)
    return self.weight * hidden * scale


@pytest.fixture(autouse=True)
def float64_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers computes RMSNorm in float32 whatever the model's type, which caps any agreement near 1e-6."""
    monkeypatch.setattr(LlamaRMSNorm, "forward", _norm)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)
