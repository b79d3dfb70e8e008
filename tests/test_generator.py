"""The generator against reference numbers, and its properties."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference import reference_generator
from torch import Tensor

from stylegan_hub.models.stylegan2 import StyleGAN2Generator, block_channels
from stylegan_hub.ops import setup_filter, upsample2d


def small(**changes: Any) -> StyleGAN2Generator:
    """A generator that is fast, with visible noise and truncation."""
    torch.manual_seed(0)
    config = {"z_dim": 16, "w_dim": 12, "img_resolution": 32, "channels": [8, 8, 6, 4]}
    generator = StyleGAN2Generator(**(config | changes))
    for name, tensor in generator.state_dict().items():
        if name.endswith(("noise_strength", "w_avg", "bias")):
            tensor.add_(0.3 * torch.randn(tensor.shape))
    return generator.eval().requires_grad_(False)


# ------------------------------------------------------------------ reference numbers


def rosinality_name(name: str) -> str:
    """The name of the same tensor in the rosinality layout."""
    if name == "mapping.w_avg":
        return "latent_avg"
    if name.startswith("mapping.fc"):
        index, kind = name.removeprefix("mapping.fc").split(".")
        return f"style.{int(index) + 1}.{kind}"
    if name == "synthesis.b4.const":
        return "input.input"
    _, block, layer, rest = name.split(".", 3)
    level = int(math.log2(int(block[1:]))) - 2
    if layer == "torgb":
        prefix = f"to_rgbs.{level - 1}" if level else "to_rgb1"
    else:
        prefix = f"convs.{2 * level - 2 + (layer == 'conv1')}" if level else "conv1"
    if rest == "noise_const":
        return f"noises.noise_{2 * level - (layer == 'conv0')}"
    return {
        "weight": f"{prefix}.conv.weight",
        "bias": f"{prefix}.bias" if layer == "torgb" else f"{prefix}.activate.bias",
        "noise_strength": f"{prefix}.noise.weight",
        "affine.weight": f"{prefix}.conv.modulation.weight",
        "affine.bias": f"{prefix}.conv.modulation.bias",
    }[rest]


@pytest.fixture(scope="module", params=["data", "golden"])
def source(request: pytest.FixtureRequest) -> Path:
    """A folder of reference numbers: ours, and if there is another one, that of stored weights."""
    found: Path = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def reference(source: Path, data: Path) -> StyleGAN2Generator:
    """The generator whose outputs are in `numbers`."""
    if source == data:
        return reference_generator()
    checkpoint = torch.load(source / "ros_ada_w64.pt", weights_only=True)
    tensors = checkpoint["g_ema"] | {"latent_avg": checkpoint["latent_avg"]}
    generator = StyleGAN2Generator(64, 0, 64, 64, channel_base=1024, channel_max=32).eval()
    state = {
        name: own if name.endswith("resample_filter") else tensors[rosinality_name(name)]
        for name, own in generator.state_dict().items()
    }
    own = generator.state_dict()
    generator.load_state_dict({name: state[name].reshape(own[name].shape) for name in state})
    return generator.requires_grad_(False)


@pytest.fixture(scope="module")
def arrays(source: Path, data: Path) -> dict[str, np.ndarray]:
    name = "nvidia_network.npz" if source == data else "nv_ada_w64.npz"
    return dict(np.load(source / name))


@pytest.fixture(scope="module")
def numbers(arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(x) for name, x in arrays.items() if x.dtype.kind == "f"}


def close(value: Tensor, expected: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(value, expected, rtol=0, atol=tolerance)


def test_golden_names(arrays: dict[str, np.ndarray], reference: StyleGAN2Generator) -> None:
    assert list(reference.state_dict()) == list(arrays["sd_names"])
    assert reference.state_dict()["synthesis.b4.conv1.noise_strength"].ndim == 0


def test_golden_mapping(reference: StyleGAN2Generator, numbers: dict[str, Tensor]) -> None:
    checked = 0
    for name, expected in numbers.items():
        if match := re.fullmatch(r"w(?:_psi(07|-05))?(?:_cut(\d))?", name):
            psi = {None: 1.0, "07": 0.7, "-05": -0.5}[match[1]]
            cutoff = None if match[2] is None else int(match[2])
            ws = reference.mapping(numbers["z"], truncation_psi=psi, truncation_cutoff=cutoff)
            close(ws, expected, 1e-5)
            checked += 1
    assert checked == 4


@pytest.mark.parametrize(
    ("name", "ws", "noise_mode"),
    [
        ("img_const", "w", "const"),
        ("img_none", "w", "none"),
        ("img_const_psi07", "w_psi07", "const"),
        ("img_wplus_const", "wplus", "const"),
    ],
)
def test_golden_images(
    reference: StyleGAN2Generator, numbers: dict[str, Tensor], name: str, ws: str, noise_mode: Any
) -> None:
    close(reference.synthesis(numbers[ws], noise_mode), numbers[name], 1e-4)


def test_golden_gradient(reference: StyleGAN2Generator, numbers: dict[str, Tensor]) -> None:
    w_plus = numbers["wplus"].clone().requires_grad_()
    projected = (reference.synthesis(w_plus) * numbers["grad_proj"]).sum()
    (gradient,) = torch.autograd.grad(projected, w_plus)
    expected = numbers["grad_wplus"]
    close(gradient, expected, 1e-4 * float(expected.abs().max()))


def test_golden_styles(reference: StyleGAN2Generator, numbers: dict[str, Tensor]) -> None:
    s = reference.styles(numbers["w"])
    for layer in reference.style_layout:
        close(s[:, layer.start : layer.stop], numbers[f"s_{layer.name}"], 1e-5)


def test_golden_style_space(data: Path) -> None:
    with torch.device("meta"):
        generator = StyleGAN2Generator()
    assert sum(p.numel() for p in generator.parameters()) == 30_370_060
    assert (generator.num_ws, generator.num_styles) == (18, 9088)
    layout = generator.style_layout
    expected = json.loads((data / "stylespace_1024.json").read_text())
    assert [[layer.name, layer.stop - layer.start] for layer in layout] == expected
    assert sum(layer.stop - layer.start for layer in layout if not layer.is_to_rgb) == 6048


# ------------------------------------------------------------------ laws


def test_style_layout_is_contiguous_and_shares_ws() -> None:
    generator = small()
    layout = generator.style_layout
    assert [layer.start for layer in layout[1:]] == [layer.stop for layer in layout[:-1]]
    assert layout[-1].stop == generator.num_styles
    assert [layer.ws_index for layer in layout] == [0, 1, 1, 2, 3, 3, 4, 5, 5, 6, 7]
    assert generator.num_ws == 8
    assert [layer.name for layer in layout[:4]] == ["b4.conv1", "b4.torgb", "b8.conv0", "b8.conv1"]
    assert generator.synthesis.affine("b8.conv0").weight.shape == (8, 12)


@pytest.mark.parametrize("noise_mode", ["const", "none"])
def test_synthesis_goes_through_style_space(noise_mode: Any) -> None:
    generator = small()
    ws = torch.randn(2, generator.num_ws, 12)
    images = generator.synthesis(ws, noise_mode)
    s = generator.styles(ws)
    assert s.shape == (2, generator.num_styles)
    assert torch.equal(generator.synthesis_from_styles(s, noise_mode), images)
    edited = s.clone()
    edited[:, generator.style_layout[3].start] += 5
    assert not torch.allclose(generator.synthesis_from_styles(edited, noise_mode), images)


def test_lower_resolution_is_the_sum_of_the_first_blocks() -> None:
    generator = small()
    ws = torch.randn(2, generator.num_ws, 12)
    low = generator.synthesis(ws, resolution=8)
    assert low.shape == (2, 3, 8, 8)
    assert torch.equal(generator.synthesis(ws, resolution=32), generator.synthesis(ws))
    other = ws.clone()
    other[:, 4:] = 0  # affects nothing up to 8 px
    assert torch.equal(generator.synthesis(other, resolution=8), low)
    assert torch.equal(generator.synthesis_from_styles(generator.styles(ws), resolution=8), low)
    # If higher blocks render nothing, the low image remains, upsampled.
    for name in ("b16", "b32"):
        torgb = generator.synthesis.get_submodule(f"{name}.torgb")
        torgb.weight.zero_()
        torgb.bias.zero_()
    f = setup_filter([1, 3, 3, 1])
    close(generator.synthesis(ws), upsample2d(upsample2d(low, f), f), 1e-5)


def test_style_mixing_changes_fine_layers_only_from_there_on() -> None:
    generator = small()
    a, b = generator.mapping(torch.randn(2, 16)).split(1)
    mixed = torch.cat([a[:, :4], b[:, 4:]], dim=1)
    at_a, at_b, at_mixed = (generator.synthesis(ws, resolution=8) for ws in (a, b, mixed))
    assert torch.equal(at_mixed, at_a) and not torch.allclose(at_a, at_b)
    full = generator.synthesis(mixed)
    assert not torch.allclose(full, generator.synthesis(a))
    assert not torch.allclose(full, generator.synthesis(b))


def test_truncation() -> None:
    generator = small()
    z = torch.randn(3, 16)
    mean = generator.mapping.w_avg.expand(3, generator.num_ws, 12)
    full, none, half = (generator.mapping(z, truncation_psi=psi) for psi in (1, 0, 0.5))
    close(none, mean, 1e-6)
    close(half, (full + mean) / 2, 1e-6)
    some = generator.mapping(z, truncation_psi=0.5, truncation_cutoff=3)
    assert torch.equal(some[:, :3], half[:, :3]) and torch.equal(some[:, 3:], full[:, 3:])
    close(generator.mapping(7 * z), full, 1e-4)  # z is normalized


def test_noise_modes() -> None:
    generator = small()
    ws = torch.randn(1, generator.num_ws, 12).repeat(2, 1, 1)
    const = generator.synthesis(ws)
    close(const[0], const[1], 1e-5)
    draws = [
        generator.synthesis(ws, "random", generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    ]
    assert torch.equal(draws[0], draws[1]) and not torch.allclose(draws[0], draws[2])
    assert not torch.allclose(draws[0][0], draws[0][1])
    assert not torch.allclose(generator.synthesis(ws, "none"), const)
    silent = small(use_noise=False)
    assert not any("noise" in name for name in silent.state_dict())
    assert torch.equal(silent.synthesis(ws), silent.synthesis(ws, "none"))


def test_labels() -> None:
    generator = small(c_dim=3)
    z, c = torch.randn(3, 16), torch.eye(3)
    same = generator.mapping(z[:1].repeat(3, 1), c)
    assert not torch.allclose(same[0], same[1])
    assert generator(z, c).shape == (3, 3, 32, 32)
    only_labels = small(z_dim=0, c_dim=3)
    assert only_labels.mapping(None, c).shape == (3, 8, 12)


def test_conv_clamp_limits_every_layer() -> None:
    generator = small(conv_clamp=0.1)
    image = generator.synthesis(torch.randn(1, generator.num_ws, 12), resolution=4)
    assert image.abs().max() <= 0.1
    assert small().synthesis(torch.randn(1, 8, 12), resolution=4).abs().max() > 0.1


@pytest.mark.parametrize("resolution", [4, 8, 128])
def test_any_resolution(resolution: int) -> None:
    generator = small(img_resolution=resolution, channels=None, channel_base=256, channel_max=8)
    assert generator.num_ws == 2 * int(math.log2(resolution)) - 2
    images = generator(torch.randn(1, 16))
    assert images.shape == (1, 3, resolution, resolution) and images.is_contiguous()


def test_update_w_avg() -> None:
    generator = small()
    z = torch.randn(64, 16)
    mean = generator.mapping(z)[:, 0].mean(0)
    old = generator.mapping.w_avg.clone()
    generator.update_w_avg(z, beta=0.75)
    close(generator.mapping.w_avg, 0.75 * old + 0.25 * mean, 1e-6)
    generator.update_w_avg(z, beta=0)
    close(generator.mapping.w_avg, mean, 1e-6)


def test_untrained_images_have_a_sane_scale_and_all_parameters_learn() -> None:
    torch.manual_seed(0)
    generator = StyleGAN2Generator(32, 0, 32, 32, channel_max=32)
    images = generator(torch.randn(4, 32))
    assert 0.1 < images.std() < 10
    images.square().mean().backward()
    for name, parameter in generator.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_path_length_penalty_has_a_gradient() -> None:
    generator = small().requires_grad_(True)
    ws = generator.mapping(torch.randn(2, 16))
    images = generator.synthesis(ws)
    (gradient,) = torch.autograd.grad(images.square().sum(), ws, create_graph=True)
    gradient.square().sum(2).mean(1).sqrt().mean().backward()
    assert generator.synthesis.b8.conv0.weight.grad.abs().sum() > 0
    assert generator.mapping.fc0.weight.grad.abs().sum() > 0


# ------------------------------------------------------------------ saving


def test_saving_keeps_everything(tmp_path: Path) -> None:
    channels = {"4": 8, "8": 8, "16": 6, "32": 4}
    generator = small(channels=channels, conv_clamp=2.5)
    generator.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["channels"] == channels
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "config.json",
        "diffusion_pytorch_model.safetensors",
    ]
    loaded = StyleGAN2Generator.from_pretrained(tmp_path)
    z = torch.randn(2, 16)
    assert torch.equal(loaded(z, truncation_psi=0.7), generator(z, truncation_psi=0.7))
    assert loaded.fingerprint() == generator.fingerprint()


def test_fingerprint(tmp_path: Path) -> None:
    generator = small()
    print_ = generator.fingerprint()
    assert len(print_) == 16 and int(print_, 16) >= 0
    assert small(channels={4: 8, 8: 8, 16: 6, 32: 4}).fingerprint() == print_
    assert small(conv_clamp=256.0).fingerprint() != print_
    small().half().save_pretrained(tmp_path)
    stored = StyleGAN2Generator.from_pretrained(tmp_path)
    assert stored.fingerprint() == print_
    assert stored.float().fingerprint() == print_
    generator.mapping.w_avg += 0.1
    assert generator.fingerprint() != print_


def test_fingerprint_knows_what_the_tensors_do_not_show() -> None:
    """Other architectures have other tensors; other activations and learning rates do not."""
    prints = {
        small(**changes).fingerprint()
        for changes in (
            {},
            {"activation": "relu"},
            {"mapping_activation": "relu"},
            {"mapping_lr_multiplier": 0.1},
        )
    }
    assert len(prints) == 4


def test_channels() -> None:
    assert block_channels(1024)[64] == 512 and block_channels(1024)[1024] == 32
    assert block_channels(16, {"16": 1, "4": 3, "8": 2}) == {4: 3, 8: 2, 16: 1}
    assert block_channels(16, (3, 2, 1)) == {4: 3, 8: 2, 16: 1}


# ------------------------------------------------------------------ errors


def test_errors_say_what_to_do() -> None:
    generator = small()
    with pytest.raises(ValueError, match=r"z = shape \(2, 17\); expected \[n, z_dim=16\]"):
        generator(torch.zeros(2, 17))
    with pytest.raises(ValueError, match="takes no labels: pass None"):
        generator(torch.zeros(2, 16), torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"c = None; expected \[n, c_dim=3\]. Give one-hot"):
        small(c_dim=3)(torch.zeros(2, 16))
    with pytest.raises(ValueError, match=r"\(2, 12\); expected \[n, num_ws=8, w_dim=12\].*repeat"):
        generator.synthesis(torch.zeros(2, 12))
    with pytest.raises(ValueError, match=r"\(2, 18, 512\); expected"):
        generator.styles(torch.zeros(2, 18, 512))
    count = generator.num_styles
    with pytest.raises(ValueError, match=rf"\(1, 5\); expected \[n, num_styles={count}\]"):
        generator.synthesis_from_styles(torch.zeros(1, 5))
    with pytest.raises(ValueError, match="'constant'; known ones: const, random, none"):
        generator.synthesis(torch.zeros(1, 8, 12), "constant")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="resolution=48; expected one of 4, 8, 16, 32"):
        generator.synthesis(torch.zeros(1, 8, 12), resolution=48)
    with pytest.raises(ValueError, match="img_resolution=48; expected a power of two"):
        small(img_resolution=48)
    with pytest.raises(ValueError, match=r"channels=\[8, 8\]; expected .* 4, 8, 16, 32"):
        small(channels=[8, 8])
    with pytest.raises(ValueError, match=r"'plain'; .*skip, resnet"):
        small(architecture="plain")
    with pytest.raises(ValueError, match="Unknown activation 'gelu'; known ones: linear"):
        small(activation="gelu")
    with pytest.raises(ValueError, match=r"resolution=8; .*resnet"):
        small(architecture="resnet").synthesis(torch.zeros(1, 8, 12), resolution=8)
    with pytest.raises(ValueError, match="z_dim=0 and c_dim=0"):
        small(z_dim=0)


# ------------------------------------------------------------------ half precision


@pytest.mark.gpu
def test_half_precision_blocks_draw_the_same_picture() -> None:
    if not torch.cuda.is_available():
        pytest.skip("Needs a CUDA device.")
    full = small(img_resolution=64, channels=None, channel_base=1024, channel_max=32).cuda()
    half = small(
        img_resolution=64, channels=None, channel_base=1024, channel_max=32, num_fp16_res=3
    ).cuda()
    ws = full.mapping(torch.randn(2, 16, device="cuda"))
    expected, images = full.synthesis(ws), half.synthesis(ws)
    assert images.dtype == torch.float32 and not torch.equal(images, expected)
    close(images, expected, 0.02 * float(expected.abs().max()))


def test_half_precision_is_left_alone_on_a_cpu() -> None:
    ws = torch.randn(1, 8, 12)
    assert torch.equal(small(num_fp16_res=3).synthesis(ws), small().synthesis(ws))
