"""The only home of drivers: each adapter gives one of the ports of `recado.ports`."""
