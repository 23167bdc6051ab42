"""Which images the next step runs, when tasks will be done; numbers only, no torch, no clock."""
