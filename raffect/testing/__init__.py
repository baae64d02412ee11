"""What tests of raffect, and of code that builds on it, may reuse."""
