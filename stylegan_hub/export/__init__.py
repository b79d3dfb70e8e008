"""Export a pipeline's networks as files for other runtimes, checked against the pipeline.

`parts.py` defines the networks with their inputs and outputs. `synthesis.py` expresses the
synthesis network in operations that every runtime has. Each format is one module with `SUFFIX`,
`DTYPES`, `NEEDS`, `write` and `load`. `folder.py` writes a folder with `export.json`.
"""

from stylegan_hub.export.folder import FORMATS as FORMATS
from stylegan_hub.export.folder import Export as Export
from stylegan_hub.export.folder import export as export
from stylegan_hub.export.folder import read_export as read_export
from stylegan_hub.export.parts import Part as Part
from stylegan_hub.export.parts import parts_of as parts_of
