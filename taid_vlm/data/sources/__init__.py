"""Where conversations come from: containers of rows, what the rows hold, and how sources are mixed.

A kind of source is a container (``files.py``, ``tables.py``, ``shards.py``) whose rows become records by one layout
(``layout.py``, ``conversation.py``); ``kinds.py`` files each under its exact name.
"""

from taid_vlm.data.sources import kinds, small_sets  # noqa: F401  (they register their kinds)
from taid_vlm.data.sources.mixing import SOURCES, read_records

__all__ = ["SOURCES", "read_records"]
