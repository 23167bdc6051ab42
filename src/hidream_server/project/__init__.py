"""The first version's way of working: a user's own project paints each task, started anew."""
