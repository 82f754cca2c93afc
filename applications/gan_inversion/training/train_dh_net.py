"""Train DH-Net on pairs from the generator.

    python -m gan_inversion.training.train_dh_net --pairs FOLDER --run FOLDER --out FILE

Loss: Equation 8, ``L_cls + 0.1 L_EAM + 0.01 L_mask``, plus the known answer: cross-entropy of the
attention against the region that the edit is about.

* Of a named direction that edits the face (all but those in ``WHOLE_IMAGE``) that is what changes
  *inside the face*. The largest differences of an edit are elsewhere: the outline of the hair, a
  collar, a hat (the mean map of "younger" is brightest around the head), and a mask that follows
  them takes what nobody asked for.
* Of the others it is where the edit of the *true* latent acts, so that what an inversion gets
  wrong in a hat or in the background is not called edited. Edits along unnamed directions have
  no class and train the region only.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from .._arguments import whole_number
from ..directions import load_directions
from ..known_answer import average_precision
from ..methods.dhfusion.dh_net import DHNet, DHNetConfig, DHNetOutput
from ..methods.dhfusion.weights import save_network
from ..perceptual import load_efficientnet_lite0
from .edit_pairs import UNNAMED
from .pair_folder import PairTaps, identity_files
from .trainer import train, training_config, training_options

EAM_WEIGHT, MASK_WEIGHT, REGION_WEIGHT = 0.1, 0.01, 1.0
WHOLE_IMAGE = ("yaw", "pose", "hair_color", "hair_length")


def losses(
    output: DHNetOutput, region: Tensor, direction: Tensor
) -> tuple[Tensor, dict[str, float]]:
    """Return the total loss and its parts; ``region [B, 1, side, side]``."""
    named = direction != UNNAMED
    zero = region.new_zeros(())
    classification, attention_classification = zero, zero
    if named.any():
        target = direction[named]
        classification = F.cross_entropy(output.logits[named], target)
        attention_classification = torch.stack(
            [F.cross_entropy(logits[named], target) for logits in output.attention_logits]
        ).mean()
    area = torch.stack([torch.sigmoid(a).mean() for a in output.attention]).mean()
    # Later iterations count more; only the last one is used.
    weights = [0.25] * (len(output.attention) - 1) + [1.0]
    known = zero
    for weight, attention in zip(weights, output.attention, strict=True):
        known = known + weight * F.binary_cross_entropy_with_logits(attention, region)
    total = (
        classification
        + EAM_WEIGHT * attention_classification
        + MASK_WEIGHT * area
        + REGION_WEIGHT * known
    )
    return total, {
        "cls": classification.item(),
        "eam": attention_classification.item(),
        "area": area.item(),
        "region": known.item(),
    }


@torch.no_grad()
def evaluate(net: DHNet, pairs: PairTaps, whole: Tensor) -> dict[str, float]:
    """Accuracy of the classifier and average precision of the mask on held-out identities."""
    net.eval()
    right, named_count = 0, 0
    precision: dict[str, list[float]] = {"named": [], "unnamed": []}
    base: list[float] = []
    for start in range(0, len(pairs), 8):
        batch = list(range(start, min(start + 8, len(pairs))))
        inverted, edited, anywhere, in_face, direction = pairs.batch(batch)
        region = target_region(anywhere, in_face, direction, whole, net.config.side)
        output = net(inverted, edited)
        mask = output.mask()
        named = direction != UNNAMED
        right += int((output.logits.argmax(1) == direction)[named].sum())
        named_count += int(named.sum())
        for m, r, is_named in zip(mask, region, named.tolist(), strict=True):
            if r.mean() > 0.005:
                value = average_precision(m, r)
                precision["named" if is_named else "unnamed"].append(value)
                base.append(r.mean().item())

    def mean(values: list[float]) -> float:
        return sum(values) / max(1, len(values))

    return {
        "accuracy": right / max(1, named_count),
        "average_precision_named": mean(precision["named"]),
        "average_precision_unnamed": mean(precision["unnamed"]),
        "average_precision_of_chance": mean(base),
    }


def target_region(
    region: Tensor, face_region: Tensor, direction: Tensor, whole: Tensor, side: int
) -> Tensor:
    """Choose each pair's region; ``whole`` says which directions are not limited to the face."""
    anywhere = (direction == UNNAMED) | whole[direction.clamp(min=0)]
    chosen = torch.where(anywhere[:, None, None, None], region, face_region)
    return F.interpolate(chosen, size=(side, side), mode="area")


def main(argv: list[str] | None = None) -> None:
    """Command line entry; see the module's docstring."""
    parser = training_options((__doc__ or "").split("\n")[0], 1200, 1e-3)
    parser.add_argument("--batch", type=whole_number(1), default=8)
    parser.add_argument("--directions", type=Path, help="the file the pairs were made with")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    names = list(load_directions(args.directions))
    trunk = load_efficientnet_lite0()
    files, held_out = identity_files(args.pairs)
    pairs, validation = PairTaps(files, trunk), PairTaps(held_out, trunk)
    whole = torch.tensor([name in WHOLE_IMAGE for name in names])
    net = DHNet(DHNetConfig(num_attributes=len(names)))

    def step(index: int, rng: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        batch = torch.randint(0, len(pairs), (args.batch,), generator=rng).tolist()
        inverted, edited, anywhere, in_face, direction = pairs.batch(batch)
        region = target_region(anywhere, in_face, direction, whole, net.config.side)
        return losses(net(inverted, edited), region, direction)

    config = training_config(args, weight_decay=1e-4)
    settings = {"batch": args.batch, "pairs": len(files), "directions": names}
    steps = train(net, step, config, args.run, description="DH-Net", settings=settings)
    figures = evaluate(net, validation, whole)
    print(figures)
    save_network(
        net,
        args.out,
        {
            "directions": names,
            "recipe": f"train_dh_net --steps {args.steps} --batch {args.batch} "
            f"--learning-rate {args.learning_rate} --seed {args.seed}",
            "steps_done": steps,
            "identities": len(files),
            "held_out": {k: round(v, 4) for k, v in figures.items()},
        },
    )


if __name__ == "__main__":
    main()
