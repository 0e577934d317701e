"""Forms that weights take: how a stored projection becomes a product, and how many bytes it then has."""

from octavo.quantization.choose import check_quantization, scheme_for
from octavo.quantization.scheme import Scheme
from octavo.quantization.stored import StoredFormat
from octavo.quantization.stored_formats import stored_format
from octavo.quantization.unquantised import Unquantised
from octavo.quantization.weight_only import WeightOnly

__all__ = [
    "Scheme",
    "StoredFormat",
    "Unquantised",
    "WeightOnly",
    "check_quantization",
    "scheme_for",
    "stored_format",
]
