"""Videos as aligned crops: frames decoded, faces found, followed and aligned."""
