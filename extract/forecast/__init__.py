"""What `--plan` needs to know: how much work is left, and how fast the encoders are here."""
