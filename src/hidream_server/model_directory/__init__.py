"""What lies in a HiDream-I1 directory, read without touching a tensor and without torch."""
