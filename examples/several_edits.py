"""Edits add: their order does not matter, and a stack is one file."""

import torch

import stylegan_hub as hub
from stylegan_hub import images

pipe = hub.StyleEditPipeline.from_pretrained("portraits")
afro, surprised = hub.load_edit("afro-hair"), hub.load_edit("surprised")
stack = hub.EditStack(start=pipe.sample(7)).added(afro, 0.8).added(surprised, 0.6)
other = hub.EditStack(start=pipe.sample(7)).added(surprised, 0.6).added(afro, 0.8)
assert torch.equal(stack.draw(pipe), other.draw(pipe))
images.save(stack.draw(pipe), "both.png")
stack.save("both.safetensors")
