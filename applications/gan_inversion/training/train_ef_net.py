"""Train EF-Net on known answers from the generator.

    python -m gan_inversion.training.train_ef_net --pairs FOLDER --run FOLDER --out FILE

Two kinds of steps, both with Equation 12's losses (L2, perceptual; EfficientNet-Lite0 features
stand in for LPIPS and, since an identity network may judge but not train, for ArcFace):

* *two-stream*, three of four: the photograph ``I = G(w)(1-A) + O A`` with an out-of-domain layer,
  the inverted and the edited image of a wrong code, DH-Net's mask, and as target the true edit
  ``T* = G(w + d)(1-A) + O A``. This is what the network meets when it is used.
* *deghosting*, one of four, Equations 10 and 11: a photograph with a half-blended edit in, the
  photograph out.

The loss is taken on windows of the 1024 px result, so that no stage is unsupervised.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..generators import load_default_generator
from ..known_answer import TRAINING_LAYERS, composite, draw_layer
from ..methods.dhfusion.dh_net import DHNet
from ..methods.dhfusion.ef_net import FEATURE_SIDES, EFNet, dilate
from ..methods.dhfusion.mask import fusion_mask
from ..methods.dhfusion.weights import load_dh_net, save_network
from ..metrics.psnr import pooled_psnr
from ..perceptual import EfficientNetLite0, feature_distance, load_efficientnet_lite0
from .edit_pairs import from_bytes
from .pair_folder import identity_files, read
from .trainer import step_generator, train, training_config, training_options

WINDOW = 384  # pixels of the 1024 px result, a multiple of 16
FEATURE_WEIGHT = 0.3  # of the "feature" output's loss beside the "residual" one's
PERCEPTUAL_WEIGHT = 0.8 * 0.25  # 0.8 as for LPIPS; the distance here is about four times larger
TAPS = (0, 2, 4)


def degrade(images: Tensor, rng: torch.Generator) -> Tensor:
    """Make clean renderings look like one photograph: softness, colour, grain.

    All images of the batch get the same treatment, the very same grain included.
    """
    u = torch.rand(4, generator=rng)
    if u[0] < 0.6:
        native = int(160 + 480 * u[1])
        small = F.interpolate(images, size=(native, native), mode="area")
        images = F.interpolate(small, size=images.shape[-2:], mode="bicubic", align_corners=False)
    gain = 1 + 0.12 * torch.randn(1, 3, 1, 1, generator=rng)
    offset = 0.06 * torch.randn(1, 3, 1, 1, generator=rng)
    images = images * gain + offset
    if u[2] < 0.7:
        grain = torch.randn(1, 3, *images.shape[-2:], generator=rng)
        images = images + 0.04 * u[3] * grain
    return images.clamp(-1, 1)


def ghost_mask(mask: Tensor) -> Tensor:
    """M_train of Equation 11: folded at one half."""
    return torch.where(mask <= 0.5, mask, 1 - mask)


class EFData:
    """Everything of one training example at the full size, from its files and its random draws."""

    def __init__(self, files: list[Path], dh_net: DHNet, trunk: EfficientNetLite0) -> None:
        self.files = files
        self.masks = []
        with torch.no_grad():
            for path in files:
                data = read(path, "inverted_small", "edited_small")
                before = from_bytes(data["inverted_small"][None])
                after = from_bytes(data["edited_small"][:1])
                output = dh_net(dh_net.taps(trunk, before), dh_net.taps(trunk, after))
                self.masks.append(output.mask())

    def example(self, index: int, rng: torch.Generator) -> dict[str, Tensor]:
        """Return ``photo``, ``target``, ``inverted``, ``edited``, ``mask`` and ``code``."""
        data = read(
            self.files[index], "photo", "true_edit", "inverted", "edited", "w_inverted", "change"
        )
        pair = torch.stack([from_bytes(data["photo"]), from_bytes(data["true_edit"])])
        kinds = list(TRAINING_LAYERS)
        while torch.rand((), generator=rng).item() < 0.55:
            kind = kinds[int(torch.randint(0, len(kinds), (), generator=rng))]
            seed = int(torch.randint(0, 2**31 - 1, (), generator=rng))
            pair = composite(pair, *draw_layer(kind, seed))
        photo, target = degrade(pair, rng).split(1)
        inverted, edited = from_bytes(data["inverted"][None]), from_bytes(data["edited"][None])
        return {
            "photo": photo,
            "target": target,
            "inverted": inverted,
            "edited": edited,
            "mask": fusion_mask(self.masks[index], inverted, edited),
            "code": (data["w_inverted"] + data["change"][0])[None],
        }


def choose_window(mask: Tensor, rng: torch.Generator) -> tuple[int, int]:
    """Return the corner of a window, around a random place of the mask; multiples of 16."""
    small = F.adaptive_avg_pool2d(mask, 64).flatten() + 1e-4
    place = int(torch.multinomial(small, 1, generator=rng))
    limit = mask.shape[-1] - WINDOW

    def corner(centre: int) -> int:
        jitter = int(torch.randint(-64, 65, (), generator=rng))
        return min(max(0, centre * 16 + 8 - WINDOW // 2 + jitter), limit) // 16 * 16

    return corner(place // 64), corner(place % 64)


def crop(x: Tensor, top: int, left: int, full: int = 1024) -> Tensor:
    """Cut the window out of a tensor whose side is ``full`` divided by a power of two."""
    scale = full // x.shape[-1]
    size = WINDOW // scale
    t, s = top // scale, left // scale
    return x[..., t : t + size, s : s + size]


def main(argv: list[str] | None = None) -> None:
    """Command line entry; see the module's docstring."""
    parser = training_options((__doc__ or "").split("\n")[0], 1600, 8e-4)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    generator = load_default_generator()
    trunk = load_efficientnet_lite0()
    dh_net, _ = load_dh_net()
    files, held_out = identity_files(args.pairs)
    data, validation = EFData(files, dh_net, trunk), EFData(held_out, dh_net, trunk)
    net = EFNet()

    def run(
        example: dict[str, Tensor], top: int, left: int, deghost: bool
    ) -> tuple[dict[str, Tensor], Tensor, Tensor, Tensor]:
        photo, edited, target = example["photo"], example["edited"], example["target"]
        if deghost:
            m = ghost_mask(example["mask"])
            target = photo
            photo = edited = edited * m + photo * (1 - m)  # Equation 10
        small = [F.interpolate(t, size=(256, 256), mode="area") for t in (photo, edited)]
        fused = net.fuse(small[0], small[1], example["mask"])
        change = net.latent_change(fused)
        # The gradient to the code passes through the layers up to 128 px; the rest costs a
        # second a step and teaches the code nothing new.
        _, features = generator.synthesis(
            example["code"] + change, return_features=True, hooks={"up5": lambda x: x.detach()}
        )
        out = net.decode(
            crop(fused[0], top, left),
            {s: crop(features[s], top, left) for s in FEATURE_SIDES},  # type: ignore[index]
            crop(photo, top, left),
            crop(example["inverted"], top, left),
            crop(edited, top, left),
            crop(example["mask"], top, left),
        )
        near = dilate(crop(example["mask"], top, left))
        return out, crop(target, top, left), near, change

    def step(index: int, rng: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        example = data.example(int(torch.randint(0, len(files), (), generator=rng)), rng)
        deghost = torch.rand((), generator=rng).item() < 0.25
        top, left = choose_window(example["mask"], rng)
        out, target, near, change = run(example, top, left, deghost)
        weight = near / near.mean().clamp(min=0.05)
        pixel = (weight * (out["residual"] - target).square()).mean()
        start = (weight * (out["blend"] - target).square()).mean()
        small = F.interpolate(target, size=(256, 256), mode="area")

        def perceptual(image: Tensor) -> Tensor:
            resized = F.interpolate(image, size=(256, 256), mode="area")
            return feature_distance(trunk.features(resized, taps=TAPS), wanted)

        with torch.no_grad():
            wanted = trunk.features(small, taps=TAPS)
        feature_pixel = (out["feature"] - target).square().mean()
        loss = pixel + PERCEPTUAL_WEIGHT * perceptual(out["residual"])
        loss = loss + FEATURE_WEIGHT * feature_pixel + 1e-3 * change.square().mean()
        if index % 4 == 0:
            loss = loss + FEATURE_WEIGHT * PERCEPTUAL_WEIGHT * perceptual(out["feature"])
        return loss, {
            "pixel": pixel.item(),
            "blend": start.item(),
            "feature": feature_pixel.item(),
            "restore": out["restore"].mean().item(),
        }

    @torch.no_grad()
    def evaluate() -> dict[str, float]:
        totals: dict[str, list[float]] = {"blend": [], "residual": [], "feature": [], "plain": []}
        for i in range(len(validation.files)):
            rng = step_generator(987, i)
            example = validation.example(i, rng)
            top, left = choose_window(example["mask"], rng)
            out, target, near, _ = run(example, top, left, False)
            for name in ("blend", "residual", "feature"):
                totals[name].append(pooled_psnr(out[name], target, near))
            totals["plain"].append(pooled_psnr(crop(example["edited"], top, left), target, near))
        return {f"psnr_near_mask_{k}": float(np.mean(v)) for k, v in totals.items()}

    config = training_config(args, checkpoint_every=50)
    settings = {"pairs": len(files)}
    steps = train(net, step, config, args.run, description="EF-Net", settings=settings)
    figures = evaluate()
    print(figures)
    save_network(
        net,
        args.out,
        {
            "recipe": f"train_ef_net --steps {args.steps} --learning-rate {args.learning_rate} "
            f"--seed {args.seed}",
            "steps_done": steps,
            "identities": len(files),
            "held_out": {k: round(v, 3) for k, v in figures.items()},
        },
    )


if __name__ == "__main__":
    main()
