"""A pipeline's networks as files for other runtimes; a check against the pipeline comes with them.

`parts.py` says which networks there are and what goes in and out, `synthesis.py` writes the
synthesis network down in the operations that every runtime has, and each format is one file with
`SUFFIX`, `DTYPES`, `write` and `load`. `folder.py` writes a folder with `export.json`.
"""

from stylegan_hub.export.folder import FORMATS as FORMATS
from stylegan_hub.export.folder import Export as Export
from stylegan_hub.export.folder import export as export
from stylegan_hub.export.folder import read_export as read_export
from stylegan_hub.export.parts import Part as Part
from stylegan_hub.export.parts import parts_of as parts_of
