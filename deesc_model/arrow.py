"""pyarrow, the extra `parquet`; the only module that imports it."""

from deesc_model.errors import MissingExtraError

try:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq
    from pyarrow import fs
except ModuleNotFoundError as error:
    raise MissingExtraError(f"the package {error.name}", "parquet") from None

__all__ = ["fs", "pa", "pc", "pq"]
