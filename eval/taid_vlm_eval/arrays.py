"""What an array holds. Its axes are the letters at the end of its name."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.integer[Any]]  # 32 or 64 bits
Flags = NDArray[np.bool_]
Marks = NDArray[np.void]
