"""The users of a broker that asks Recado who they are (`--broker-auth http`): a client connects with its own token."""


class TokenLogins:
    """A `Users` (see `external`)."""

    async def login(self, user: str, token: str) -> tuple[str, str]:
        return user, token

    async def cut_off(self, user: str) -> None:
        """What the user has there is not Recado's to end: docs/external-brokers.md says how the operator does."""
