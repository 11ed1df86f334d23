from recado.app.cli import main

main()
