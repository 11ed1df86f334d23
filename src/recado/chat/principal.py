"""Who is asking: a user, the host application, or the host acting as a user."""

import msgspec

from recado.chat.errors import Forbidden, Invalid


class Principal(msgspec.Struct, frozen=True):
    """The authenticated caller. `user` is None only for the host acting as itself; `expires_at_s` is a Unix time."""

    user: str | None
    is_host: bool = False
    expires_at_s: int | None = None

    def require_host(self) -> None:
        if not self.is_host:
            raise Forbidden("only the host application may do this: use its API key")

    def require_user(self) -> str:
        """The user to act as. The host must name one."""
        if self.user is None:
            raise Invalid("this acts as a user: name one in the header Recado-User")
        return self.user
