"""How long to look for what another process has written to a disk that both share: network disks show it late."""

PATIENCE = 60.0  # seconds
PAUSE = 1.0
