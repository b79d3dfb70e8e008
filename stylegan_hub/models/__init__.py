"""The networks: generator, discriminator, CLIP, and those that judge and encode pictures."""
