"""CLIP's image tower as a frame encoder: building, fine-tuning, turning crops into features."""
