"""Pictures that lie inside tables, kept as files of their own, so that items hold paths and memory holds no pictures.

A file is named by the SHA-256 of its bytes: equal pictures are one file, and items about one picture form one cluster. The
same files serve every later run.
"""

import base64
import binascii
import hashlib
import io
import os
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from taid_vlm.common.files import disk_errors


class PictureStore:
    """Puts pictures into ``folder``.

    Args:
        folder: where the files lie; made when the first picture comes.
        beside: what relative paths of pictures start from.
    """

    def __init__(self, folder: Path, beside: Path) -> None:
        self.folder, self.beside = folder, beside

    def put(self, cell: Any) -> Path | None:
        """The path of a picture given as bytes, ``{bytes, path}``, a path or a PIL image; None for an empty cell.

        Raises:
            ValueError: anything else.
        """
        if isinstance(cell, dict):
            cell = cell.get("bytes") or cell.get("path")
        if cell is None or cell == "" or cell == b"":
            return None
        if isinstance(cell, bytes):
            return self._write(cell)
        if isinstance(cell, Image.Image):
            stream = io.BytesIO()
            (cell if cell.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16") else cell.convert("RGB")).save(
                stream, "PNG"
            )
            return self._write(stream.getvalue())
        if isinstance(cell, str | Path):
            return self.beside / cell
        raise ValueError(f"a picture is {type(cell).__name__}, expected bytes, a path or base64")

    def put_base64(self, text: str) -> Path:
        """The path of a picture given in base64.

        Raises:
            ValueError: the text is no base64.
        """
        try:
            return self._write(base64.b64decode(text, validate=True))
        except binascii.Error as error:
            raise ValueError(f"the picture is not base64 ({error})") from error

    def _write(self, data: bytes) -> Path:
        digest = hashlib.sha256(data).hexdigest()
        path = self.folder / digest[:2] / digest
        # A file cut short by a crash of the machine has another size.
        if path.is_file() and path.stat().st_size == len(data):
            return path
        with disk_errors("pictures of a task", self.folder):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=".")
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            os.replace(name, path)
        return path
