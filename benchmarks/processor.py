"""What the processor is, and how fast it multiplies: the roof that no network can pass."""
import platform
import time
from pathlib import Path

from auditus.models.resources import usable_cores
from auditus.models.tuned import processor_kind


def model_name():
    "What the processor calls itself."
    try: lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError: return platform.processor() or platform.machine()
    return next((l.split(':', 1)[1].strip() for l in lines if l.startswith('model name')), platform.machine())


def heading(): return f'{processor_kind()}: {model_name()}, {usable_cores()} cores'


def roof(dtype='float32', n=3072, tries=5):
    "The rate at which large matrices are multiplied (GFLOP/s), by the better of two libraries, the best of some tries."
    import torch
    a, b = (torch.randn(n, n).to(getattr(torch, dtype)) for _ in range(2))
    ways = [lambda: torch.nn.functional.linear(a, b)]
    if hasattr(torch.ops.mkldnn, '_reorder_linear_weight'):
        packed = torch.ops.mkldnn._reorder_linear_weight(b, None)
        ways.append(lambda: torch.ops.mkldnn._linear_pointwise(a, packed, None, 'none', [], ''))
    best = float('inf')
    with torch.inference_mode():
        for way in ways*tries:
            began = time.perf_counter()
            way()
            best = min(best, time.perf_counter()-began)
    return 2*n**3/best/1e9


def gflop(network, *args, **kwargs):
    "The arithmetic of a pass in GFLOP; attention is counted too, which torch's counter doesn't see where one kernel does it."
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(*args, **kwargs)
    return counter.get_total_flops()/1e9
