"""Where an edit acts: find a region, mask it, and join the inside with the outside."""
