"""The array types of the project: a name says how many dimensions an array has, and how wide its numbers are.

``x`` is one vector of shape (dim,), ``X`` a batch of shape (n, dim). Vectors are stored and sent as float32 or
float16, and computed in float64 where sums are long.
"""

import numpy as np
from numpy.typing import NDArray

#: One vector of shape (dim,).
Vector32 = NDArray[np.float32]
Vector64 = NDArray[np.float64]
#: Rows of vectors, of shape (n, dim).
Matrix = NDArray[np.float32]
Matrix64 = NDArray[np.float64]
#: As vectors are stored and sent where a rounding of 0.03 % does no harm.
Matrix16 = NDArray[np.float16]
#: Numbers of any shape.
Array64 = NDArray[np.float64]
AnyMatrix = NDArray[np.float32] | NDArray[np.float64]
#: Positions of rows.
Indices = NDArray[np.int64]
#: One truth value for each row.
Mask = NDArray[np.bool_]
