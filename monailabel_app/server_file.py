"""How the server marks a path as its own."""


class ServerFile(str):
    """Path of an image that the server itself put on its disk (an upload, a session). A request's image is taken for a path only if it is
    one of these; whatever a client sends is a plain text and can only name a case."""

    __slots__ = ()

    def __new__(cls, path: object) -> "ServerFile":
        return super().__new__(cls, str(path))
