"""What faults and other goings-on do to boards and nodes; neutral where there are none."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from farmhand_agent.reading import Value

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

COUNTED = (
    "pcie_replay_total",
    "ecc_corrected_total",
    "ecc_uncorrected_total",
    "remapped_rows_total",
    "retired_pages_total",
    "remap_pending",
    "remap_failed",
)
"""Counters and flags of `card` that a fault may raise."""


@dataclass
class Effects:
    """State of the farm beyond sound boards; arrays have one entry a card."""

    lost: Flags
    unreadable: Flags
    resting: Flags
    """No work is given to the card."""
    fan_flow_ceiling: Array
    """Fan speed, 0..1, that the air flow is worth, whatever speed is intended."""
    fan_held: Array
    """Fan speed, 0..1, at which the controller is stuck or fixed; NaN where it is free."""
    joint_resistance: Array
    """K/W added between die and heat sink."""
    sink_resistance: Array
    """K/W added between heat sink and air."""
    memory_rise_ratio: Array
    """How much more than usual the memory is above the heat sink."""
    air_kelvin: Array
    """Warmth of the air that a card breathes, beyond the usual."""
    clock_ceiling: Array
    """MHz that the clock never exceeds."""
    clock_ratio: Array
    """All clocks of the core against those of the usual driver."""
    draw_ratio: Array
    """Watts above the floor for the same clock and work."""
    idle_power_ratio: Array
    limit_ratio: Array
    """Power limit in force against the one the card came with."""
    power_ceiling: Array
    """Watts that the supply gives, whatever the limit in force says."""
    ceiling_told: Flags
    """Whether the board tells that it is short of power, as one that measures each inlet does."""
    memory_clock_ceiling: Array
    slowdown_share: Array
    """Share of the loaded time in which the hardware halves the clock."""
    brake_share: Array
    """Share of the loaded time under the external power brake."""
    compute_ratio: Array
    """Work of the compute units for the same clock."""
    bandwidth_ratio: Array
    """Memory traffic for the same memory clock."""
    host_ratio: Array
    """Pace at which the node feeds the card."""
    utilization_scale: Array
    """Share of its usual time in which the card's kernels run."""
    waiting_share: Array
    """Share of its kernels' time in which a card waits for others and draws little."""
    pcie_width_ceiling: Array
    pcie_generation_ceiling: Array
    replays_per_second: Array
    corrected_per_second: Array
    memory_total_ceiling: Array
    counted: dict[str, Array]
    """Raises of counters and flags, by name in `COUNTED`."""
    room_kelvin: Array
    """(nodes,) warmth of the air at the inlet of a node, beyond the usual."""
    node_late_seconds: Array
    """(nodes,) how late the readings of a node arrive."""
    node_silent_until: Array
    """(nodes,) time before which a node is down and sends nothing."""
    board_at: npt.NDArray[np.int64]
    """Which board of the fleet stands in each place."""
    withheld: dict[int, frozenset[str]] = field(default_factory=dict)
    """Fields that a card refuses to give."""
    identity: dict[int, dict[str, Value]] = field(default_factory=dict)
    """Fields of `card_info` that differ from what the card had."""
    shown_card: dict[int, str] = field(default_factory=dict)
    """UUIDs that differ from what the card had."""
    driver: dict[int, str] = field(default_factory=dict)
    """Driver of a node, where it is not the one from the start."""

    @classmethod
    def none(cls, count: int, nodes: int = 1) -> "Effects":
        """Sound boards only, in their own places."""

        def filled(value: float) -> Array:
            return np.full(count, value)

        return cls(
            lost=np.zeros(count, bool),
            unreadable=np.zeros(count, bool),
            resting=np.zeros(count, bool),
            fan_flow_ceiling=filled(np.inf),
            fan_held=filled(np.nan),
            joint_resistance=filled(0.0),
            sink_resistance=filled(0.0),
            memory_rise_ratio=filled(1.0),
            air_kelvin=filled(0.0),
            clock_ceiling=filled(np.inf),
            clock_ratio=filled(1.0),
            draw_ratio=filled(1.0),
            idle_power_ratio=filled(1.0),
            limit_ratio=filled(1.0),
            power_ceiling=filled(np.inf),
            ceiling_told=np.zeros(count, bool),
            memory_clock_ceiling=filled(np.inf),
            slowdown_share=filled(0.0),
            brake_share=filled(0.0),
            compute_ratio=filled(1.0),
            bandwidth_ratio=filled(1.0),
            host_ratio=filled(1.0),
            utilization_scale=filled(1.0),
            waiting_share=filled(0.0),
            pcie_width_ceiling=filled(np.inf),
            pcie_generation_ceiling=filled(np.inf),
            replays_per_second=filled(0.0),
            corrected_per_second=filled(0.0),
            memory_total_ceiling=filled(np.inf),
            counted={name: filled(0.0) for name in COUNTED},
            room_kelvin=np.zeros(nodes),
            node_late_seconds=np.zeros(nodes),
            node_silent_until=np.full(nodes, -np.inf),
            board_at=np.arange(count),
        )
