"""The OpenAI API as its clients know it, on the same tasks: images, models, files, batches."""
