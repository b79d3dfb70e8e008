"""What can go wrong, apart from a plain `ValueError` or `TypeError` for a wrong argument.

StyleganHubError
├── NotFoundError (FileNotFoundError)   a name, folder or Hub id leads nowhere
├── ArtifactError (ValueError)          a file or folder is incomplete, broken, unsafe or too new
├── MismatchError (ValueError)          two sound parts do not belong together
├── MethodError (ValueError)            a method cannot do what it is asked, or does not exist
└── hub.PublishError (OSError)          the Hub did not take a folder

Every message says what was got, what was expected and what to do.
"""


class StyleganHubError(Exception):
    """Base of all errors that are this library's own.

    Attributes:
        got, expected: what was given and what would have done, as plain values; None where the
            message alone says it.
        remedy: what to do; it ends the message.
    """

    def __init__(
        self, message: str, *, got: object = None, expected: object = None, remedy: str = ""
    ) -> None:
        super().__init__(f"{message} {remedy}".strip())
        self.got, self.expected, self.remedy = got, expected, remedy


class NotFoundError(StyleganHubError, FileNotFoundError):
    """A name, folder or Hub id leads nowhere."""


class ArtifactError(StyleganHubError, ValueError):
    """A file or folder is there, but incomplete, broken, unsafe or too new to read."""


class MismatchError(StyleganHubError, ValueError):
    """Two sound parts do not belong together: an edit and another generator, two latent spaces."""


class MethodError(StyleganHubError, ValueError):
    """A method cannot do what it is asked, or there is no such method."""
