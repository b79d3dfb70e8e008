"""Several pictures on one sheet, with titles at the edges."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw, ImageFont

from stylegan_hub import images as image_files
from stylegan_hub.domain import Domain
from stylegan_hub.edits.stack import displaced
from stylegan_hub.errors import MethodError
from stylegan_hub.images import grid
from stylegan_hub.latents import Latents
from stylegan_hub.methods.prompt_bank import text_change
from stylegan_hub.methods.table import bundled_table

ALPHAS = (-4.0, -2.0, 0.0, 2.0, 4.0)
BETAS = (0.05, 0.1, 0.15, 0.2)


def before_after(before: Image.Image, after: Image.Image, labels: bool = True) -> Image.Image:
    """Both pictures side by side, with the titles "Before" and "After" if `labels` is true.

    Raises:
        ValueError: the pictures differ in size.
    """
    if not labels:
        return grid([before, after], columns=2)
    return titled_grid([before, after], [""], ["Before", "After"])


@torch.no_grad()
def alpha_beta(
    domain: Domain,
    face: Latents,
    text: str,
    neutral: str | None = None,
    alphas: Sequence[float] = ALPHAS,
    betas: Sequence[float] = BETAS,
) -> Image.Image:
    """One face, with a row for each alpha and a column for each beta (StyleCLIP, Figure 6).

    Alpha is how far the most relevant channel moves, in standard deviations. Beta is the relevance
    that a channel needs to move at all, so a larger beta leaves more of the rest unchanged. If no
    channel reaches beta, nothing moves.

    Args:
        face: one latent in any space.
        text: what the picture should show.
        neutral: what it shows now; the domain's own neutral text if None.

    Raises:
        MethodError: the domain has no direction table.
        ValueError: there are no alphas or betas, several faces, or the text is empty.
    """
    if (table := bundled_table(domain)) is None:
        raise MethodError(
            "A grid of alpha and beta needs a direction table, but this pipeline has none.",
            got=domain.base_model.fingerprint,
            expected="a direction table",
            remedy="Build one with recipes/build_direction_table.py, or make a film instead.",
        )
    if len(face) != 1 or not alphas or not betas:
        raise ValueError(
            f"Got {len(face)} faces, {len(alphas)} alphas and {len(betas)} betas; expected one "
            "face and at least one of each."
        )
    domain.check_text(text)
    top = float(table.project(text_change(domain, text, neutral or domain.neutral)).abs().max())
    rows: list[Image.Image] = []
    for alpha in alphas:
        for beta in betas:
            latents = face
            if beta <= top:
                edit = table.direction(domain, text, neutral, threshold=beta, alpha=1.0)
                latents = displaced(domain, face, [(edit, alpha)])
            rows += image_files.to_pil(domain.synthesize(latents).clamp(-1, 1).float())
    return titled_grid(rows, [f"alpha {a:g}" for a in alphas], [f"beta {b:g}" for b in betas])


def titled_grid(
    pictures: Sequence[Image.Image], rows: Sequence[str], columns: Sequence[str]
) -> Image.Image:
    """Pictures of the same size row by row, with a title for each row and each column.

    Raises:
        ValueError: there is not one picture for every row and column, or the pictures differ in
            size.
    """
    if len(pictures) != len(rows) * len(columns):
        raise ValueError(
            f"Got {len(pictures)} pictures for {len(rows)} rows and {len(columns)} columns; "
            "expected one for each row and column."
        )
    sheet = grid(pictures, columns=len(columns))
    width, height = pictures[0].size
    size = max(10, min(width, height) // 12)
    font = ImageFont.load_default(size)
    longest = max(font.getlength(text) for text in rows)
    left = round(longest + size) if longest else 0
    top = round(1.8 * size) if any(columns) else 0
    titled = Image.new("RGB", (left + sheet.width, top + sheet.height), "white")
    titled.paste(sheet, (left, top))
    pen = ImageDraw.Draw(titled)
    for index, text in enumerate(columns):
        pen.text((left + (index + 0.5) * width, top / 2), text, "black", font, "mm")
    for index, text in enumerate(rows):
        pen.text((left - size / 2, top + (index + 0.5) * height), text, "black", font, "rm")
    return titled
