"""The store in PostgreSQL, in a schema of its own, `recado`; any number of processes may use it at the same time.

- `batch`: one transaction, in which several writes are done together; `writes` are those to conversations. A write is a
  `Write`: a coroutine function of the `Batch`, with the conversations that it locks. `PostgresStore.write` runs it.
- `reads`, `jobs`, `people`: coroutine functions of a connection, which `PostgresStore.on_connection` runs. A read of
  conversations is one statement, and so one moment. The others also write what no batch locks, several statements in a
  transaction of their own.
- `group_commit`: commits together what was asked for while the last commit ran. `following`: hands out what is
  committed, whichever process did it, in the order of the positions.
- `database`: connections and migrations.

Importing this package imports no driver: `limits` is for everybody, `store` needs the extra `postgres`.
"""
