"""The commands, a module for each group. ``taid_vlm.cli`` puts them together; each parses, calls one function and prints."""
