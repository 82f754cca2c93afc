"""Face recognition with an IR-SE network, and the identity loss of pSp and e4e.

Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition",
https://arxiv.org/abs/1801.07698.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..hub import Hub
from .ir_se import STAGE_CHANNELS, IRTrunk

_STRIDE = 16
_DROPOUT = 0.4


class ArcFace(Hub, nn.Module):
    """A face-recognition network: an aligned face to a point on the unit sphere.

    The defaults are the network of ``model_ir_se50.pth``, which pSp, e4e and their successors use
    in their identity loss. ``depth=100, squeeze_excite=False, affine=False`` is the IR-101 of
    CurricularFace (Huang et al., https://arxiv.org/abs/2004.00288). Paper of the network:
    https://arxiv.org/abs/1801.07698, section 3.1.

    Args:
        input_size: side of the face in pixels, a multiple of 16: 112 or 224 in released files.
        depth: of the trunk: 18, 34, 50, 100 or 152.
        squeeze_excite: IR-SE units if true, IR units if not.
        embedding_dim: width of the output.
        affine: whether the last normalisation has a weight and a bias.

    Raises:
        ValueError: an argument out of range; in ``forward``, a face of another size.

    Example:
        >>> import torch
        >>> face_id = ArcFace(input_size=32, depth=18, embedding_dim=64).eval()
        >>> embedding = face_id(torch.zeros(2, 3, 32, 32))
        >>> embedding.shape
        torch.Size([2, 64])
    """

    def __init__(
        self,
        input_size: int = 112,
        *,
        depth: int = 50,
        squeeze_excite: bool = True,
        embedding_dim: int = 512,
        affine: bool = True,
    ) -> None:
        super().__init__()
        if input_size < _STRIDE or input_size % _STRIDE:
            raise ValueError(f"`input_size` must be a multiple of {_STRIDE}, got {input_size!r}")
        if embedding_dim < 1:
            raise ValueError(f"`embedding_dim` must be 1 or more, got {embedding_dim!r}")
        self.input_size = input_size
        self.embedding_dim = embedding_dim
        self.config: dict[str, Any] = {
            "input_size": input_size,
            "depth": depth,
            "squeeze_excite": squeeze_excite,
            "embedding_dim": embedding_dim,
            "affine": affine,
        }
        self.trunk = IRTrunk(depth, squeeze_excite)
        channels, side = STAGE_CHANNELS[-1], input_size // _STRIDE
        self.norm = nn.BatchNorm2d(channels)
        self.dropout = nn.Dropout(_DROPOUT)
        self.projection = nn.Linear(channels * side * side, embedding_dim)
        self.embedding_norm = nn.BatchNorm1d(embedding_dim, affine=affine)

    def forward(self, face: Tensor) -> Tensor:
        """Embed ``face [B, 3, input_size, input_size]``, RGB in [-1, 1], as unit rows.

        Returns:
            ``[B, embedding_dim]``; the inner product of two rows is their cosine similarity.

        Raises:
            ValueError: another shape.
        """
        side = self.input_size
        if face.ndim != 4 or tuple(face.shape[1:]) != (3, side, side):
            raise ValueError(
                f"`face` must have shape [B, 3, {side}, {side}], got {list(face.shape)}; "
                "crop and resize it first, as IDLoss does"
            )
        x = self.dropout(self.norm(self.trunk(face).stride16))
        return F.normalize(self.embedding_norm(self.projection(x.flatten(1))))


class IDLoss(nn.Module):
    """1 - cosine similarity of two faces' embeddings: the identity loss of pSp and e4e.

    .. math:: L_{ID}(\\hat y, y) = 1 - \\langle R(\\hat y), R(y) \\rangle

    pSp, https://arxiv.org/abs/2008.00951, equation 4. Images are aligned as FFHQ's are; larger
    ones are averaged down to 256 x 256, of which rows 35 to 222 and columns 32 to 219 are taken and
    averaged down to 112 x 112, as in the released code.

    Args:
        face_id: any module that maps ``[B, 3, size, size]`` in [-1, 1] to ``[B, D]``, normalised or
            not. It is frozen: put in evaluation mode and its parameters set to need no gradient.
        size: side of the face that `face_id` reads.
        crop: (top, bottom, left, right) in the image of 256 x 256, ends excluded.

    Raises:
        ValueError: a crop that does not lie in the image; in ``forward``, images that do not match
            or are not at least 256 x 256.

    Example:
        >>> import torch
        >>> loss = IDLoss(ArcFace(input_size=32, depth=18), size=32)
        >>> image = torch.rand(2, 3, 256, 256) * 2 - 1
        >>> bool(loss(image, image).abs() < 1e-5)
        True
    """

    def __init__(
        self,
        face_id: nn.Module,
        *,
        size: int = 112,
        crop: tuple[int, int, int, int] = (35, 223, 32, 220),
    ) -> None:
        super().__init__()
        top, bottom, left, right = crop
        if not (0 <= top < bottom <= 256 and 0 <= left < right <= 256):
            raise ValueError(
                f"`crop` must be (top, bottom, left, right) within 256 x 256, got {crop}"
            )
        if size < 1:
            raise ValueError(f"`size` must be 1 or more, got {size!r}")
        self.face_id = face_id.requires_grad_(False)
        self.size = size
        self.crop = (top, bottom, left, right)
        self.eval()

    def train(self, mode: bool = True) -> IDLoss:
        """Stay in evaluation mode: a judge whose statistics move is none."""
        return super().train(False)

    def embed(self, image: Tensor) -> Tensor:
        """Crop and embed ``image [B, 3, H, W]``, H = W >= 256, in [-1, 1]: unit rows ``[B, D]``.

        Raises:
            ValueError: another shape, or an embedding that is not ``[B, D]``.
        """
        if image.ndim != 4 or image.shape[1] != 3 or image.shape[2] != image.shape[3]:
            raise ValueError(f"`image` must have shape [B, 3, H, H], got {list(image.shape)}")
        if image.shape[2] < 256:
            raise ValueError(
                f"`image` must be 256 x 256 or larger, got {image.shape[2]} x {image.shape[3]}; "
                "resize it first, knowing that the network then judges a blurred face"
            )
        if image.shape[2] != 256:
            image = F.adaptive_avg_pool2d(image, 256)
        top, bottom, left, right = self.crop
        face = F.adaptive_avg_pool2d(image[:, :, top:bottom, left:right], self.size)
        embedding = self.face_id(face)
        if embedding.ndim != 2 or embedding.shape[0] != image.shape[0]:
            raise ValueError(
                f"`face_id` must return [B, D] for B = {image.shape[0]} faces, "
                f"got {list(embedding.shape)}"
            )
        return F.normalize(embedding)

    def similarity(self, y_hat: Tensor, y: Tensor) -> Tensor:
        """Cosine similarity ``[B]`` of two batches of images; ``y`` gets no gradient.

        Raises:
            ValueError: batches of different size, or images of a wrong shape.
        """
        if y_hat.shape[0] != y.shape[0]:
            raise ValueError(
                f"`y_hat` and `y` must hold the same number of images, "
                f"got {y_hat.shape[0]} and {y.shape[0]}"
            )
        with torch.no_grad():
            target = self.embed(y)
        return (self.embed(y_hat) * target).sum(1)

    def forward(self, y_hat: Tensor, y: Tensor) -> Tensor:
        """Return the mean over the batch of 1 - :meth:`similarity`, a scalar in [0, 2].

        Args:
            y_hat: ``[B, 3, H, H]`` in [-1, 1], H >= 256; gets the gradient.
            y: the faces they should show, likewise.
        """
        return (1 - self.similarity(y_hat, y)).mean()
