"""ED-HNN: equivariant hypergraph diffusion."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from hypergraph._checks import (
    check_choice,
    check_features,
    check_float,
    check_fraction,
    check_layer_dtype,
    check_positive_int,
)
from hypergraph._numerics import propagation_dtype
from hypergraph.incidence import Incidence
from hypergraph.nn._mlp import MLP, Norm
from hypergraph.nn._pair_mlp import aggregate, aggregate_pairs, needs_pairs
from hypergraph.nn.hgnn_conv import as_incidence


class EDHNNConv(nn.Module):
    """Hyperedges send every vertex a message that also depends on the vertex.

    Per hyperedge e and vertex v, with a mean or a sum as AGG and three MLPs::

        m_e = AGG over members v of W1(x_v)
        z_v = AGG over hyperedges e of v of W2([x_v || m_e])
        X'  = W((1 - alpha) Z + alpha X_0)

    Wang et al., Equivariant Hypergraph Diffusion Neural Operators (ICLR 2023,
    https://arxiv.org/abs/2207.06680), Algorithm 1; ``EquivSetConv`` of the official code. An MLP of
    0 layers is the identity, and W2 of 0 layers picks m_e, as there. The model shares one layer
    among all depths and applies a ReLU after each. The defaults are those of the official command
    (the class itself has single linear maps, a sum, no norm and no dropout).

    AGG takes h_ve as a multiplicity, towards vertices w_e h_ve: a mean divides by their sum. An
    isolated vertex has z_v = 0 and keeps alpha x_0; an empty hyperedge has no vertex to send to.
    With ``norm="bn"`` the statistics of W2 count every listed pair once, whatever its value.

    ``[x_v || m_e]`` is not formed: W2's first linear map (a LayerNorm before it included) is split
    into a part of the vertex and a part of the hyperedge, which meet at the pairs, and its last
    linear map follows the aggregation. This is exact. If W2 has 0 layers, or 1 without input norm,
    it takes no pairs at all, and any incidence operator serves; otherwise one with members.

    Args:
        in_channels: channels of x.
        out_channels: channels of x0 and of the result.
        mlp1_layers: linear maps of W1; 0 needs in_channels = out_channels.
        mlp2_layers: linear maps of W2.
        mlp3_layers: linear maps of W.
        alpha: share of X_0, in [0, 1].
        reduce: AGG, ``"mean"`` or ``"sum"``.
        dropout: inside the MLPs.
        norm: inside the MLPs, ``"ln"``, ``"bn"`` or None.
        input_norm: the MLPs begin with a norm.

    Example:
        >>> import torch
        >>> from hypergraph import EDHNNConv, Hypergraph
        >>> h = Hypergraph.from_edges([[0, 1], [1, 2]], num_nodes=4)
        >>> x0 = torch.randn(4, 8)
        >>> conv = EDHNNConv(8, 8)
        >>> x = conv(x0, x0, h).relu()
        >>> conv(x, x0, h).shape
        torch.Size([4, 8])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        mlp1_layers: int = 2,
        mlp2_layers: int = 2,
        mlp3_layers: int = 2,
        alpha: float = 0.5,
        reduce: Literal["mean", "sum"] = "mean",
        dropout: float = 0.5,
        norm: Norm = "ln",
        input_norm: bool = True,
    ) -> None:
        super().__init__()
        self.in_channels = check_positive_int("in_channels", in_channels)
        self.out_channels = check_positive_int("out_channels", out_channels)
        self.alpha = check_fraction("alpha", alpha)
        check_choice("reduce", reduce, ("mean", "sum"))
        self.reduce: Literal["mean", "sum"] = reduce
        for number, layers in enumerate((mlp1_layers, mlp2_layers, mlp3_layers), 1):
            if layers != 0:
                check_positive_int(f"mlp{number}_layers", layers)
        if mlp1_layers == 0 and in_channels != out_channels:
            raise ValueError(
                "`mlp1_layers` of 0 stands for the identity and needs in_channels = out_channels, "
                f"got {in_channels} and {out_channels}; use at least 1"
            )

        def mlp(layers: int, channels: int) -> MLP | nn.Identity:
            if layers == 0:
                return nn.Identity()
            out = out_channels
            return MLP(channels, out, out, layers, dropout, norm, input_norm)

        self.w1 = mlp(mlp1_layers, in_channels)
        self.w2 = mlp(mlp2_layers, in_channels + out_channels)
        self.w3 = mlp(mlp3_layers, out_channels)

    def reset_parameters(self) -> None:
        """Draw all parameters anew, with torch's defaults, as the authors."""
        for module in (self.w1, self.w2, self.w3):
            if isinstance(module, MLP):
                module.reset_parameters()

    def forward(
        self,
        x: Tensor,  # [N, in_channels] or [B, N, in_channels]
        x0: Tensor,  # [N, out_channels] or [B, N, out_channels]
        hypergraph: Incidence | Tensor,
    ) -> Tensor:
        """Convolve.

        Args:
            x: [N, in_channels] or [B, N, in_channels].
            x0: the features before the first layer, [N, out_channels] or [B, N, out_channels].
            hypergraph: an operator over N vertices, with members where W2 needs pairs (above), or a
                ``hyperedge_index`` [2, nnz].

        Returns:
            The shape of x with out_channels channels.

        Raises:
            ValueError, TypeError: features and hypergraph do not fit, or the operator lists no
                members and W2 needs them.
        """
        x = check_features(x, self.in_channels)
        x0 = _checked_first(x0, x, self.out_channels)
        _check_dtypes(x, self.w1, self.w2, self.w3)
        hypergraph = as_incidence(hypergraph, x)
        if isinstance(self.w2, MLP) and needs_pairs(self.w2):
            hypergraph = hypergraph.with_members()
        edges = aggregate(self.w1(x), hypergraph, self.reduce, "edges")
        if isinstance(self.w2, MLP):
            z = aggregate_pairs(self.w2, x, edges, hypergraph, self.reduce)
        else:
            z = aggregate(edges, hypergraph, self.reduce, "nodes")
        return self.w3((1 - self.alpha) * z + self.alpha * x0.to(z.dtype))

    def extra_repr(self) -> str:
        """Show the settings that are not in the MLPs."""
        return f"alpha={self.alpha}, reduce={self.reduce!r}"


class EDHNNJumpLinkConv(nn.Module):
    """The linear variant of ED-HNN, close to UniGCNII.

    ``X^ = (1 - alpha) P X + alpha X_0``, then ``X' = (1 - beta) X^ + beta W(X^)``, where P takes
    the mean (or sum) over members and then over hyperedges, and W is an MLP without norms.

    ``JumpLinkConv`` of the official code of Wang et al., Equivariant Hypergraph Diffusion Neural
    Operators (ICLR 2023, https://arxiv.org/abs/2207.06680); the paper does not describe it. Any
    incidence operator serves. Multiplicities, W, isolated vertices: as for ``EDHNNConv``.

    Args:
        in_channels: channels of x and of x0.
        out_channels: channels of the result.
        mlp_layers: linear maps of W.
        alpha: share of X_0, in [0, 1].
        beta: share of W, in [0, 1]; other than 1 needs in_channels = out_channels.
        reduce: ``"mean"`` or ``"sum"``.

    Example:
        >>> import torch
        >>> from hypergraph import EDHNNJumpLinkConv, Hypergraph
        >>> h = Hypergraph.from_edges([[0, 1], [1, 2]], num_nodes=4)
        >>> x = torch.randn(4, 8)
        >>> EDHNNJumpLinkConv(8, 16)(x, x, h).shape
        torch.Size([4, 16])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        mlp_layers: int = 2,
        alpha: float = 0.5,
        beta: float = 1.0,
        reduce: Literal["mean", "sum"] = "mean",
    ) -> None:
        super().__init__()
        self.in_channels = check_positive_int("in_channels", in_channels)
        self.alpha = check_fraction("alpha", alpha)
        self.beta = check_fraction("beta", beta)
        if beta != 1 and in_channels != out_channels:
            raise ValueError(
                f"`beta` other than 1 needs in_channels = out_channels, got {beta} with "
                f"{in_channels} and {out_channels}"
            )
        check_choice("reduce", reduce, ("mean", "sum"))
        self.reduce: Literal["mean", "sum"] = reduce
        check_positive_int("mlp_layers", mlp_layers)
        self.w = MLP(in_channels, out_channels, out_channels, mlp_layers)

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        self.w.reset_parameters()

    def forward(
        self,
        x: Tensor,  # [N, in_channels] or [B, N, in_channels]
        x0: Tensor,  # the shape of x
        hypergraph: Incidence | Tensor,
    ) -> Tensor:
        """Convolve.

        Args:
            x: [N, in_channels] or [B, N, in_channels].
            x0: the features before the first layer, of the same shape.
            hypergraph: any operator over N vertices, or a ``hyperedge_index`` [2, nnz].

        Returns:
            The shape of x with out_channels channels.

        Raises:
            ValueError, TypeError: features and hypergraph do not fit.
        """
        x = check_features(x, self.in_channels)
        x0 = _checked_first(x0, x, self.in_channels)
        _check_dtypes(x, self.w)
        hypergraph = as_incidence(hypergraph, x)
        edges = aggregate(x, hypergraph, self.reduce, "edges")
        smooth = aggregate(edges, hypergraph, self.reduce, "nodes")
        mixed = (1 - self.alpha) * smooth + self.alpha * x0.to(smooth.dtype)
        mapped = self.w(mixed)
        if self.beta == 1:
            return mapped
        return (1 - self.beta) * mixed.to(mapped.dtype) + self.beta * mapped

    def extra_repr(self) -> str:
        """Show the settings that are not in the MLP."""
        return f"alpha={self.alpha}, beta={self.beta}, reduce={self.reduce!r}"


class EDHNNMeanDegConv(nn.Module):
    """ED-HNN with means throughout and the logarithms of the degrees as further inputs.

    Per hyperedge e and vertex v, with MLPs without norms::

        m_e = mean over members v of W1(x_v)
        z_v = mean over hyperedges e of v of W2([x_v || m_e || log delta_e])
        x'_v = W3([z_v || x_v || x0_v || log d_v])

    ``MeanDegConv`` of the official code of Wang et al., Equivariant Hypergraph Diffusion Neural
    Operators (ICLR 2023, https://arxiv.org/abs/2207.06680), which regains from means what a sum
    knows of the degrees. ``d_v = sum of w_e h_ve`` and ``delta_e = sum of h_ve``. The logarithm of
    a degree that counts as 0 is 0 here; the official code gives -infinity and then NaN to every
    isolated vertex (and fails where the last vertex is isolated). An isolated vertex has z_v = 0.

    W2 is split as in ``EDHNNConv``: with 1 layer any incidence operator serves, else one with
    members.

    Args:
        in_channels: channels of x.
        out_channels: channels of the result.
        first_channels: channels of x0; default out_channels.
        mlp1_layers: linear maps of W1.
        mlp2_layers: linear maps of W2.
        mlp3_layers: linear maps of W3.

    Example:
        >>> import torch
        >>> from hypergraph import EDHNNMeanDegConv, Hypergraph
        >>> h = Hypergraph.from_edges([[0, 1], [1, 2]], num_nodes=4)
        >>> x = torch.randn(4, 8)
        >>> EDHNNMeanDegConv(8, 16, first_channels=8)(x, x, h).shape
        torch.Size([4, 16])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        first_channels: int | None = None,
        mlp1_layers: int = 2,
        mlp2_layers: int = 2,
        mlp3_layers: int = 2,
    ) -> None:
        super().__init__()
        self.in_channels = check_positive_int("in_channels", in_channels)
        out = check_positive_int("out_channels", out_channels)
        first = out_channels if first_channels is None else first_channels
        self.first_channels = check_positive_int("first_channels", first)
        for number, layers in enumerate((mlp1_layers, mlp2_layers, mlp3_layers), 1):
            check_positive_int(f"mlp{number}_layers", layers)
        self.w1 = MLP(in_channels, out, out, mlp1_layers)
        self.w2 = MLP(in_channels + out + 1, out, out, mlp2_layers)
        self.w3 = MLP(in_channels + out + first + 1, out, out, mlp3_layers)

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        for module in (self.w1, self.w2, self.w3):
            module.reset_parameters()

    def forward(
        self,
        x: Tensor,  # [N, in_channels] or [B, N, in_channels]
        x0: Tensor,  # [N, first_channels] or [B, N, first_channels]
        hypergraph: Incidence | Tensor,
    ) -> Tensor:
        """Convolve.

        Args:
            x: [N, in_channels] or [B, N, in_channels].
            x0: the features before the first layer, [N, first_channels] or [B, ...].
            hypergraph: an operator over N vertices, with members unless W2 has 1 layer, or a
                ``hyperedge_index`` [2, nnz].

        Returns:
            The shape of x with out_channels channels.

        Raises:
            ValueError, TypeError: features and hypergraph do not fit, or the operator lists no
                members and W2 needs them.
        """
        x = check_features(x, self.in_channels)
        x0 = _checked_first(x0, x, self.first_channels)
        _check_dtypes(x, self.w1)
        hypergraph = as_incidence(hypergraph, x)
        if needs_pairs(self.w2):
            hypergraph = hypergraph.with_members()
        edges = aggregate(self.w1(x), hypergraph, "mean", "edges")
        dtype = propagation_dtype(x)
        edges = torch.cat([edges, _log_column(hypergraph.edge_degree(dtype), edges)], -1)
        z = aggregate_pairs(self.w2, x, edges, hypergraph, "mean")
        degree = _log_column(hypergraph.node_degree(dtype), z)
        return self.w3(torch.cat([z, x.to(z.dtype), x0.to(z.dtype), degree], -1))

    def extra_repr(self) -> str:
        """Show the channels."""
        return f"in_channels={self.in_channels}, first_channels={self.first_channels}"


def _checked_first(x0: object, x: Tensor, channels: int) -> Tensor:
    x0 = check_float("x0", x0)
    if x0.shape != (*x.shape[:-1], channels):
        raise ValueError(
            f"`x0` must have shape {[*x.shape[:-1], channels]} beside `x` of shape "
            f"{list(x.shape)}, got {list(x0.shape)}"
        )
    if x0.device != x.device:
        raise ValueError(
            f"`x0` must be on the device of `x`, {x.device}, got {x0.device}; "
            "move it with .to(x.device)"
        )
    return x0


def _check_dtypes(x: Tensor, *modules: nn.Module) -> None:
    for module in modules:
        if isinstance(module, MLP):
            check_layer_dtype(x, module.lins[0].weight)  # type: ignore[arg-type]


def _log_column(degree: Tensor, beside: Tensor) -> Tensor:
    """Logarithms of degrees as a column that can stand beside features."""
    column: Tensor = _LogDegree.apply(degree)
    return column.unsqueeze(-1).to(beside.dtype).expand(*beside.shape[:-1], 1)


class _LogDegree(torch.autograd.Function):
    """Logarithm, 0 where the degree counts as 0; the gradient is clamped as in inverse_power."""

    generate_vmap_rule = True

    @staticmethod
    def forward(degree: Tensor) -> Tensor:
        return torch.where(degree > torch.finfo(degree.dtype).tiny, degree, 1).log()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (degree,) = ctx.saved_tensors
        limits = torch.finfo(degree.dtype)
        slope = torch.where(degree > limits.tiny, degree, torch.inf).reciprocal()
        return grads[0] * slope.clamp_max(limits.max**0.5)
