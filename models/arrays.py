"""The array types of the project, named by number of dimensions and precision.

``x`` is one vector of shape (dim,), ``X`` a batch of shape (n, dim). Vectors are stored and sent as float32 or
float16; long sums are computed in float64.
"""

import numpy as np
from numpy.typing import NDArray

#: One vector of shape (dim,).
Vector32 = NDArray[np.float32]
Vector64 = NDArray[np.float64]
#: Rows of vectors, of shape (n, dim).
Matrix = NDArray[np.float32]
Matrix64 = NDArray[np.float64]
#: Rows stored or sent where a rounding error of 0.03 % does no harm.
Matrix16 = NDArray[np.float16]
#: Numbers of any shape.
Array64 = NDArray[np.float64]
AnyMatrix = NDArray[np.float32] | NDArray[np.float64]
#: Row positions.
Indices = NDArray[np.int64]
#: One boolean per row.
Mask = NDArray[np.bool_]
