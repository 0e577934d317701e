"""Forms that weights take: how a stored projection becomes a product, and how many bytes it then has."""

from octavo.quantization.choose import check_quantization, scheme_for
from octavo.quantization.scheme import Scheme
from octavo.quantization.unquantised import Unquantised
from octavo.quantization.weight_only import WeightOnly

__all__ = ["Scheme", "Unquantised", "WeightOnly", "check_quantization", "scheme_for"]
