"""An artifact and an image become a deployment that answers."""
