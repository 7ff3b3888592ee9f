"""A sysfs tree that shows the stand-in's cards on a PCI bus, one below each root port."""

import shutil
from pathlib import Path

from tests.standin import State

ROOT = "0000:00"


class Bus:
    """A bus that a test changes while processes look at it."""

    def __init__(self, sysfs: Path) -> None:
        self.sysfs = sysfs
        for directory in ("bus/pci/devices", "bus/pci/drivers/nvidia"):
            (sysfs / directory).mkdir(parents=True, exist_ok=True)

    @classmethod
    def of(cls, state: State, sysfs: Path) -> "Bus":
        """The bus with every card of a farm's state."""
        bus = cls(sysfs)
        for number in range(len(state.cards)):
            bus.plug(number)
        return bus

    def slot(self, number: int) -> str:
        """Slot of the farm's card of that number."""
        return f"{ROOT}/{number + 1:02x}.0/00.0"

    def address(self, number: int) -> str:
        """Address of the farm's card of that number while its bus has the number of its port."""
        return f"{ROOT[:4]}:{number + 1:02x}:00.0"

    def plug(self, number: int, bus: int | None = None) -> None:
        """Put a card below its root port, on a bus of any number."""
        port = self.sysfs / f"devices/pci{ROOT}/{ROOT}:{number + 1:02x}.0"
        card = port / f"0000:{number + 1 if bus is None else bus:02x}:00.0"
        card.mkdir(parents=True)
        for name, text in {"vendor": "0x10de", "class": "0x030000", "numa_node": "0"}.items():
            (card / name).write_text(f"{text}\n")
        (card / "config").write_bytes(b"\xde\x10" + bytes(62))
        (card / "driver").symlink_to(self.sysfs / "bus/pci/drivers/nvidia")
        for device in (port, card):
            link = self.sysfs / "bus/pci/devices" / device.name
            if not link.is_symlink():
                link.symlink_to(device)
            self.count(device.name, BadTLP=0)

    def unplug(self, number: int) -> None:
        """Take a card out; its port stays."""
        card = self._card(number)
        (self.sysfs / "bus/pci/devices" / card.name).unlink()
        shutil.rmtree(card)

    def fall_off(self, number: int) -> None:
        """Leave a card in the kernel's list that no longer answers on the bus."""
        (self._card(number) / "config").write_bytes(b"\xff" * 64)

    def count(self, address: str, **correctable: int) -> None:
        """Set the error counters of a card or port."""
        device = self.sysfs / "bus/pci/devices" / address
        lines = [f"{name} {count}" for name, count in correctable.items()]
        total = f"TOTAL_ERR_COR {sum(correctable.values())}"
        (device / "aer_dev_correctable").write_text("\n".join([*lines, total, ""]))

    def _card(self, number: int) -> Path:
        port = self.sysfs / f"devices/pci{ROOT}/{ROOT}:{number + 1:02x}.0"
        (card,) = (entry for entry in port.iterdir() if entry.is_dir())
        return card
