from farmhand_collector.store.base import Block, block_of

__all__ = ["Block", "block_of"]
