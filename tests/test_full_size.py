"""A pipeline of the size of FFHQ's, assembled from files in the official formats, runs once."""

import resource
import time
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from test_checkpoints import assemble, foreign, nvidia, saved  # noqa: F401  foreign: a fixture
from transformers import CLIPConfig, CLIPModel

from stylegan_hub.methods.optimization import Settings
from stylegan_hub.models.clip import build_image_processor
from stylegan_hub.models.encoder import Encoder
from stylegan_hub.models.parser import Parser
from stylegan_hub.models.recognizer import Recognizer
from stylegan_hub.models.stylegan2 import StyleGAN2Generator
from stylegan_hub.pipeline import StyleEditPipeline

GIGABYTE = 2**30


@pytest.mark.slow
@pytest.mark.usefixtures("foreign")
def test_ffhq_from_files_to_an_edit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    times = {"start": time.perf_counter()}
    torch.manual_seed(0)
    saved(tmp_path / "ffhq.pkl", nvidia(StyleGAN2Generator()))
    encoder = Encoder().state_dict()
    content = {
        "state_dict": {f"encoder.{name}": x for name, x in encoder.items() if name != "latent_avg"},
        "latent_avg": encoder["latent_avg"],
        "opts": {"encoder_type": "Encoder4Editing"},
    }
    torch.save(content, tmp_path / "e4e.pt")
    torch.save(Recognizer().state_dict(), tmp_path / "irse50.pth")
    torch.save(Parser().state_dict(), tmp_path / "bisenet.pth")
    del encoder, content
    clip = tmp_path / "clip"
    CLIPModel(CLIPConfig()).save_pretrained(clip)  # the sizes of ViT-B/32
    bundled = StyleEditPipeline.from_pretrained("portraits")
    bundled.tokenizer.save_pretrained(clip)
    build_image_processor(224).save_pretrained(clip)
    del bundled
    times["files"] = time.perf_counter()

    assemble(
        generator=str(tmp_path / "ffhq.pkl"),
        clip=str(clip),
        encoder=str(tmp_path / "e4e.pt"),
        recognizer=str(tmp_path / "irse50.pth"),
        parser=str(tmp_path / "bisenet.pth"),
        output=tmp_path / "ffhq",
    )
    times["assemble"] = time.perf_counter()
    pipe = StyleEditPipeline.from_pretrained(tmp_path / "ffhq")
    assert pipe.generator.num_ws == 18 and pipe.generator.num_styles == 9088
    times["load"] = time.perf_counter()
    before = pipe(seed=1)
    assert before.images[0].size == (1024, 1024)
    times["draw"] = time.perf_counter()
    settings = Settings(steps=2, shared_steps=1, shared_faces=2)
    found = pipe.find("a face with a hat", before.latents, method="optimization", settings=settings)
    pipe(latents=before.latents, edits=[(found, 1.0)])
    times["edit"] = time.perf_counter()
    pixels = pipe.synthesize(before.latents).clamp(-1, 1)
    assert pipe.encoder.encode(pixels).shape == (1, 18, 512)
    assert pipe.parser.labels(pixels).shape == (1, 1024, 1024)
    assert pipe.recognizer(pixels).shape == (1, 512)
    times["look"] = time.perf_counter()

    names = list(times)
    spent = [f"{b} {times[b] - times[a]:.1f} s" for a, b in pairwise(names)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIGABYTE
    with capsys.disabled():
        print(f"\nfull size: {', '.join(spent)}; peak memory {peak:.1f} GB")
