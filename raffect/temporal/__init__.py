"""The temporal models: data, model, losses, training, prediction and evaluation."""
