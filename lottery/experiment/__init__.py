"""The YAML as typed structs: what is trained, for how long, at which rates."""
