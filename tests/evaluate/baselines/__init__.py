"""What others do: rules and statistics that farmhand is held against."""
