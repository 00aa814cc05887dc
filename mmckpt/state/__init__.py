"""What a checkpoint holds besides MMEngine's own keys."""
