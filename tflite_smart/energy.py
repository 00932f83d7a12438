"""What reading a weight costs in energy: an estimate from published constants, never a measurement.

Small devices spend more on moving weights than on computing with them; that is what SmartDeal trades, bytes from memory for shifts and adds (arXiv:2101.01163). The constants are those of a 45 nm chip:
Horowitz, "Computing's energy problem", ISSCC 2014, doi:10.1109/ISSCC.2014.6757323, the DRAM one as quoted by Han et al., arXiv:1602.01528, table I. Newer chips use less of each; the ratios stay.
"""

DRAM_PJ_PER_BYTE = 640 / 4  # a 32-bit word from DRAM
CACHE_PJ = 5.0  # a 32-bit word from an 8 KB SRAM: one look-up in a table
ADD_PJ = 0.1  # 32-bit integer addition, and as much for a shift: an upper bound
_LOOK_UPS_PER_ID = {"raw": 0.0, "bitpack": 0.0, "sparse": 0.0, "rans": 2.0}  # both halves of the slot's tables; bit planes take only logic
_SUMMANDS = 2  # operations of a coefficient and weight of a group: shift, add


def read_energy_uj(num_bytes: int, num_weights: int = 0, codec: str | None = None, value_kind: str | None = None, group_size: int = 0) -> float:
    """Microjoules to bring a weight tensor once from memory to the multipliers: its bytes, decoding the ids, rebuilding the values.

    Args:
        num_bytes: stored.
        num_weights, codec, value_kind: of a packed weight; a plain one has none.
        group_size: of SmartDeal's bases.

    Example:
        >>> round(read_energy_uj(4_000_000), 1)
        640.0
    """
    per_weight = 0.0
    if codec is not None:
        per_weight += _LOOK_UPS_PER_ID[codec] * CACHE_PJ / 4 + ADD_PJ  # table entries are bytes
        per_weight += {"codebook": CACHE_PJ, "smartdeal": _SUMMANDS * group_size * ADD_PJ}.get(value_kind, 0.0)
    return (num_bytes * DRAM_PJ_PER_BYTE + num_weights * per_weight) * 1e-6
