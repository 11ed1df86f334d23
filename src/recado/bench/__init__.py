"""`recado bench compare`: every transport with the same chat workload, measured on sockets and by the kernel."""
