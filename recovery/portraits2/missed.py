import torch, sys
from stylegan_hub.models.stylegan2 import StyleGAN2Generator
from stylegan_hub.portraits.paired import *
from stylegan_hub.portraits.attributes import ATTRIBUTES, sample
from stylegan_hub.portraits.factors import factor_matrix
from stylegan_hub.portraits.renderer import render_factors

g = StyleGAN2Generator.from_pretrained(sys.argv[1])
res = int(sys.argv[2])
e = FactorEncoder(256)
s = sample(range(20_000_000, 20_000_016))
with torch.no_grad():
    f = factor_matrix(s)
    a = render_factors(f, res)
    ga = g.synthesis(e(f)[:, None].expand(-1, g.num_ws, -1), noise_mode="none", resolution=res)
    print("psnr", 10 * torch.log10(4 / (ga - a).square().mean()).item())
    for n, v in ATTRIBUTES.items():
        lab = {n: (s.labels[n] + 1) % len(v)}
        f2 = factor_matrix(s.with_labels(**lab))
        b = render_factors(f2, res)
        gb = g.synthesis(e(f2)[:, None].expand(-1, g.num_ws, -1), noise_mode="none", resolution=res)
        size = (b - a).abs().mean((1, 2, 3))
        miss = (gb - ga - b + a).abs().mean((1, 2, 3))
        ok = size > 2e-4
        print(
            f"{n:12s} size {size[ok].mean():.4f} min {size[ok].min():.4f} share {(miss / size.clamp_min(2e-4))[ok].mean():.2f} total {miss[ok].sum() / size[ok].sum():.2f}"
        )
