"""What is in an exception group: nurseries wrap what they raise. Knows no exceptions of ours."""


def only(error: BaseException) -> BaseException:
    """
    The error itself, where it is alone in its groups; otherwise the group that holds several.
    """
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def first(error: BaseException) -> BaseException:
    """
    The first error, where several may say the same.
    """
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
