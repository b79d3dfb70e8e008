"""One edit at five strengths, from its opposite to its full effect."""

import stylegan_hub as hub
from stylegan_hub import images

pipe = hub.StyleEditPipeline.from_pretrained("portraits")
smile = hub.load_edit("local-smile")
strengths = (-1.0, -0.5, 0.0, 0.5, 1.0)
faces = [pipe(seed=7, edits=[(smile, strength)]).images[0] for strength in strengths]
images.grid(faces, columns=len(faces)).save("slider.png")
