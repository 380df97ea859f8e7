"""A layout of two small tensors, and states made of given numbers."""

from collections.abc import Sequence

import numpy as np

from sam_adapters.schema import AdapterSchema, AdapterState, TensorSpec

BASE = "ab" * 32
SCHEMA = AdapterSchema(BASE, rank=2, shared_depth=0.5, tensors=(TensorSpec("block.0.B", (2, 2)), TensorSpec("block.1.B", (1, 2))))
OTHER_RANK = AdapterSchema(BASE, rank=1, shared_depth=0.5, tensors=(TensorSpec("block.0.B", (6, 1)),))
OTHER_BASE = AdapterSchema("cd" * 32, rank=2, shared_depth=0.5, tensors=SCHEMA.tensors)
# As many values as the default base sends (rank 8, everything shared).
FULL_SIZE = AdapterSchema(BASE, rank=8, shared_depth=1.0, tensors=(TensorSpec("all.B", (21_952, 8)),), shared_decoder=True)


def toy_state(values: Sequence[float] | float, schema: AdapterSchema = SCHEMA) -> AdapterState:
    """A state with `values` in schema order; one number fills all."""
    return AdapterState.from_vector(schema, np.broadcast_to(np.asarray(values, np.float32), (schema.size,)))
