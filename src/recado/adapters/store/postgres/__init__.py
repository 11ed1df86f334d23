"""The store in PostgreSQL, in a schema of its own, `recado`; any number of processes may use it at the same time.

- `batch`: one transaction, in which several writes are done together; `writes` are those to conversations. A write is a
  `Write`: a coroutine function of the `Batch`, with the conversations that it locks. `PostgresStore.write` runs it.
- `reads`: coroutine functions of a connection, each one statement and so one moment. `PostgresStore.read` runs them; on
  such a connection a single statement may also write what no batch locks, and commits by itself.
- `group_commit`: commits together what was asked for while the last commit ran. `following`: hands out what is
  committed, whichever process did it, in the order of the positions.
- `database`: connections and migrations.

Importing this package imports no driver: `limits` is for everybody, `store` needs the extra `postgres`.
"""
