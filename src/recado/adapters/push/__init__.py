"""Services that wake a device."""
