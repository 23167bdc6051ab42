"""Which of the active images the next step runs; numbers only, no torch, no clock."""
