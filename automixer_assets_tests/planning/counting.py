"""Operations of a real pass, counted as torch's own rules say, kernel by kernel as they are called."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count


class Operations(TorchDispatchMode):
    """`FlopCounterMode` without its record of modules, which `torch.autograd.grad` refuses, and with what torch's
    registry leaves out: the CPU's fused attention and the in-place product."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        aten = torch.ops.aten
        if func is aten._scaled_dot_product_flash_attention_for_cpu.default:
            self.total += sdpa_flop_count(args[0].shape, args[1].shape, args[2].shape)
        elif func is aten._scaled_dot_product_flash_attention_for_cpu_backward.default:
            self.total += sdpa_backward_flop_count(args[0].shape, args[1].shape, args[2].shape, args[3].shape)
        else:
            packet = aten.addmm if func is aten.addmm_.default else func._overloadpacket
            if packet in flop_registry:
                self.total += flop_registry[packet](*args, **(kwargs or {}), out_val=out)
        return out
