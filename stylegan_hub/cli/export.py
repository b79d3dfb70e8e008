"""`stylegan-hub export`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from stylegan_hub.cli.console import (
    UsageError,
    hide_loading,
    main,
    open_studio,
    print_table,
    reporting,
)
from stylegan_hub.cli.values import check_folder


@main.command("export")
def export_networks(
    pipeline: Annotated[str, typer.Argument(help="Bundled name, folder or Hub id.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    format: Annotated[
        str,
        typer.Option(
            help="Format: onnx, openvino, torch (a torch.export package), or web (docs/browser.md)."
        ),
    ] = "onnx",
    size: Annotated[
        int | None, typer.Option(min=4, help="Longer side of the pictures. By default full size.")
    ] = None,
    dtype: Annotated[
        Literal["float32", "float16", "bfloat16"], typer.Option(help="Precision.")
    ] = "float32",
    latent: Annotated[
        Literal["z", "w_plus", "s"],
        typer.Option(help="Input of the generator; z includes the mapping network."),
    ] = "w_plus",
    parts: Annotated[
        list[str] | None,
        typer.Option(
            "--part",
            help="Only this part: generator, clip_image, clip_text, encoder. May be repeated.",
        ),
    ] = None,
    edits: Annotated[
        list[str] | None,
        typer.Option("--edit", help="For web: an edit to include. May be repeated."),
    ] = None,
    check: Annotated[
        bool, typer.Option(help="For web: run the self-test in Chromium, if it is installed.")
    ] = True,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Also write into a folder that is not empty.")
    ] = False,
) -> None:
    """Write generator, CLIP and encoder as files for other runtimes, and check each of them.

    Each file is run on test inputs and compared with the pipeline. Nothing is written if a result
    differs by more than rounding.

    \b
    Examples:
      stylegan-hub export portraits --format onnx -o portraits-onnx
      stylegan-hub export portraits --format openvino --latent s --dtype bfloat16 -o fast
      stylegan-hub sample --runtime fast -o faces.png
      stylegan-hub export portraits --format torch --part generator -o package
      stylegan-hub export portraits --format web --edit afro-hair -o web
    """
    with reporting():
        check_folder(output)
        if format == "web":
            if size or parts or dtype != "float32" or latent != "w_plus":
                raise UsageError("--size, --dtype, --latent and --part cannot be used with web. "
                                  "Leave them out.")  # fmt: skip
            _export_web(pipeline, output, edits or [], check, overwrite)
            return
        if edits:
            raise UsageError("--edit needs --format web; other formats hold only networks.")
        from stylegan_hub.export.folder import check_format, export
        from stylegan_hub.export.pipeline import pipeline_parts

        check_format(format, dtype)
        hide_loading()
        pipe = open_studio(pipeline, "cpu", "pytorch").pipe
        found = export(
            pipeline_parts(pipe, latent, size, dtype, parts),
            output,
            format,
            generator=pipe.base_model.fingerprint,
            latent=latent,
            resolution=pipe.block(size) or pipe.generator.config.img_resolution,
            dtype=dtype,
            overwrite=overwrite,
            on_part=lambda name: typer.echo(f"Exporting {name} ...", err=True),
        )
    rows = [("file", "takes", "gives", "error", "PSNR")]
    for one in found.parts:
        takes = ", ".join(f"{n} {['n', *size]}".replace("'", "") for n, size in one.inputs.items())
        psnr = "-" if one.psnr is None else f"{one.psnr:.1f} dB"
        rows.append((one.files[0], takes, one.output, f"{one.error:.1e}", psnr))
    print_table(rows)


def _export_web(
    pipeline: str, output: Path, names: Sequence[str], check: bool, overwrite: bool
) -> None:
    """The format "web" of `export`: write, print the sizes, compare in a browser."""
    from stylegan_hub.browser.check import check as checked
    from stylegan_hub.browser.check import chromium
    from stylegan_hub.browser.export import export_web, sizes_text
    from stylegan_hub.edits.base import load_edit
    from stylegan_hub.errors import ArtifactError

    loaded = {name: load_edit(name) for name in names}
    exported = export_web(open_studio(pipeline).pipe, output, edits=loaded, overwrite=overwrite)
    typer.echo(sizes_text(exported))
    typer.echo(f"Half precision changes its pictures by at most {exported.rounding:.2g} of 255.")
    if not check:
        return
    if chromium() is None:
        typer.echo("Not checked in a browser: Chromium is missing (apt-get install chromium).")
        return
    result = checked(output)
    rows = [("Compared", "Difference", "At most")]
    rows += [(one.name, f"{one.difference:.2g}", f"{one.limit:g}") for one in result.compared]
    print_table(rows)
    if not result.passes:
        wrong = ", ".join(one.name for one in result.compared if not one.passes)
        raise ArtifactError(
            f"The browser's {result.backend} differs from Python in: {wrong}. Please report it."
        )
    typer.echo(f"Chromium renders it with {result.backend} in {result.milliseconds:.0f} ms.")
