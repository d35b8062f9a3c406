"""What is the matter when SQS refuses, in words for people: the names that boto3 and SQS give it, sorted."""

import enum

from engine.errors import SourceUnavailableError


class Trouble(enum.Enum):
    """
    Why a queue did not answer as it should.
    """

    UNREACHABLE = enum.auto()
    # None were found, or what was found is incomplete.
    NO_CREDENTIALS = enum.auto()
    # SQS does not know them, or they have expired.
    BAD_CREDENTIALS = enum.auto()
    # They are good, but not for this.
    FORBIDDEN = enum.auto()
    NO_QUEUE = enum.auto()
    OTHER = enum.auto()


# Classes of botocore's.
_CLASSES = {
    "EndpointConnectionError": Trouble.UNREACHABLE,
    "ConnectionClosedError": Trouble.UNREACHABLE,
    "ConnectTimeoutError": Trouble.UNREACHABLE,
    "ReadTimeoutError": Trouble.UNREACHABLE,
    "SSLError": Trouble.UNREACHABLE,
    "ProxyConnectionError": Trouble.UNREACHABLE,
    "NoCredentialsError": Trouble.NO_CREDENTIALS,
    "PartialCredentialsError": Trouble.NO_CREDENTIALS,
    "ProfileNotFound": Trouble.NO_CREDENTIALS,
    "CredentialRetrievalError": Trouble.NO_CREDENTIALS,
    "UnauthorizedSSOTokenError": Trouble.NO_CREDENTIALS,
    "TokenRetrievalError": Trouble.NO_CREDENTIALS,
}
# Codes of SQS, and of AWS in general, without what stands before their last dot.
_CODES = {
    "NonExistentQueue": Trouble.NO_QUEUE,
    "QueueDoesNotExist": Trouble.NO_QUEUE,
    "InvalidAddress": Trouble.NO_QUEUE,
    "AccessDenied": Trouble.FORBIDDEN,
    "AccessDeniedException": Trouble.FORBIDDEN,
    "AuthorizationError": Trouble.FORBIDDEN,
    "InvalidClientTokenId": Trouble.BAD_CREDENTIALS,
    "InvalidAccessKeyId": Trouble.BAD_CREDENTIALS,
    "InvalidSecurity": Trouble.BAD_CREDENTIALS,
    "UnrecognizedClientException": Trouble.BAD_CREDENTIALS,
    "SignatureDoesNotMatch": Trouble.BAD_CREDENTIALS,
    "IncompleteSignature": Trouble.BAD_CREDENTIALS,
    "MissingAuthenticationToken": Trouble.BAD_CREDENTIALS,
    "ExpiredToken": Trouble.BAD_CREDENTIALS,
    "ExpiredTokenException": Trouble.BAD_CREDENTIALS,
    "RequestExpired": Trouble.BAD_CREDENTIALS,
}


def trouble_of(error: SourceUnavailableError) -> Trouble:
    """
    What an error of a queue's is about.
    """
    cause = error.__cause__
    response = getattr(cause, "response", None)
    if isinstance(response, dict):
        told = response.get("Error")
        code = str(told.get("Code", "")) if isinstance(told, dict) else ""
        return _CODES.get(code.rpartition(".")[2].rpartition("#")[2], Trouble.OTHER)
    return _CLASSES.get(type(cause).__name__, Trouble.OTHER)
