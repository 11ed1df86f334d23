"""What a whole system is made of beside Recado: the servers it works with, and the files to run them."""
