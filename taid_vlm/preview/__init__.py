"""What the models will see: samples token by token, pictures cut into tiles, lengths, and what is left out and why."""

from taid_vlm.preview.command import preview_recipe
from taid_vlm.preview.html_page import page
from taid_vlm.preview.make import make_preview
from taid_vlm.preview.schema import Preview
from taid_vlm.preview.show import show

__all__ = ["Preview", "make_preview", "page", "preview_recipe", "show"]
