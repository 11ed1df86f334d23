"""Where it is put together: settings, limits, wiring and the command line. The only place that chooses adapters."""
