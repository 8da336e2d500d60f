"""The process that tries the device out and may die of it: `python -m app.devices.probe_child`."""
