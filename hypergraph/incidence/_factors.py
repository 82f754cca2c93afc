"""What the operators made of two factors share."""

from collections.abc import Callable

from torch import Tensor

from hypergraph._checks import check_device, check_float


def check_factors(p: Tensor, q: Tensor) -> None:
    """Raise unless p is [N, d] or [B, N, d] and q is [M, d] or [B, M, d]."""
    check_float("p", p)
    check_float("q", q)
    if p.dim() not in (2, 3):
        raise ValueError(f"`p` must have shape [N, d] or [B, N, d], got {list(p.shape)}")
    check_device("q", q, p.device, "p")
    if q.dim() != p.dim() or q.shape[:-2] != p.shape[:-2] or q.shape[-1] != p.shape[-1]:
        leading = "" if p.dim() == 2 else f"{p.shape[0]}, "
        raise ValueError(
            f"`q` must have shape [{leading}M, {p.shape[-1]}] to go with `p` of shape "
            f"{list(p.shape)}, got {list(q.shape)}"
        )


def batched(
    function: Callable[..., Tensor | tuple[Tensor, ...]],
    /,
    *tensors: Tensor | None,
    **settings: str | Tensor | None,
) -> tuple[Tensor, ...]:
    """Call a function of batched tensors; a single hypergraph becomes a batch of one."""
    first = tensors[0]
    assert first is not None
    single = first.dim() == 2
    if single:
        tensors = tuple(None if tensor is None else tensor.unsqueeze(0) for tensor in tensors)
    out = function(*tensors, **settings)
    outputs = (out,) if isinstance(out, Tensor) else out
    return tuple(output.squeeze(0) for output in outputs) if single else outputs
